"""Which images are alike, by the tokens that they are made of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import track
from torch import nn

from delvm_mm.hardware import choose_device
from delvm_mm.models import load_tokenizer
from delvm_mm.models.tokenizers.images import encode_images

__all__ = ["CodebookHistograms"]

BATCH = 16


class CodebookHistograms:
    """How often each code of a tokenizer's codebook comes in each of some images.

    Args:
        images: uint8 H x W x 3, RGB, all of one size; read one batch at a time.
        tokenizer: As for :func:`delvm_mm.models.load_tokenizer`.
        device: Where to encode; by default a GPU if there is one.
    """

    def __init__(
        self, images: Sequence[np.ndarray], tokenizer: str | Path | dict | nn.Module, device: str | None = None
    ) -> None:
        self.device = choose_device(device)
        self.tokenizer = load_tokenizer(tokenizer).to(self.device)
        starts = range(0, len(images), BATCH)
        console = Console()
        quiet = not (console.is_terminal and is_main_process()) or len(starts) < 2
        self.counts = np.concatenate(
            [
                self._count([images[index] for index in range(start, min(start + BATCH, len(images)))])
                for start in track(starts, "prompt candidates", console=console, transient=True, disable=quiet)
            ]
        )

    def by_likeness(self, image: np.ndarray) -> np.ndarray:
        """Positions of the images, those most like ``image`` first; equals are in their order.

        Likeness is the intersection of the histograms (Swain and Ballard, 1991): the codes that both images have.

        Returns:
            int64, N.
        """
        common = np.minimum(self.counts, self._count([image])).sum(1, dtype=np.int64)
        return np.argsort(-common, kind="stable")

    def _count(self, images: list[np.ndarray]) -> np.ndarray:
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(self.device)
        tokens = encode_images(self.tokenizer, stacked).cpu().numpy()
        return np.stack([np.bincount(row, minlength=self.tokenizer.num_embeddings) for row in tokens]).astype(np.uint16)
