"""Tokenizing inside a pipeline, for training without a token store; in bulk, use ``delvm tokenize``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from delvm_mm.datasets.transforms.base import BaseTransform
from delvm_mm.datasets.transforms.formatting import clip_images
from delvm_mm.models import load_tokenizer
from delvm_mm.models.tokenizers.images import encode_images
from delvm_mm.registry import TRANSFORMS

__all__ = ["VQGANTokenize"]


@TRANSFORMS.register_module()
class VQGANTokenize(BaseTransform):
    """Turn the images of a clip into tokens: adds ``tokens`` (int64 array k x (h*w)) and ``grid`` (h, w).

    The tokenizer is built once, before worker processes start, so that all have the same weights.

    Args:
        tokenizer: A tokenizer, its checkpoint folder, ``dict(pretrained=folder)``, or a config
            ``dict(type='VQGAN', ...)``.
        keys: Fields in the order of the clip, as in ``PackClip``.
        device: Where to encode. With worker processes it has to be the CPU.
    """

    def __init__(
        self,
        tokenizer: str | Path | dict | Any,
        keys: Sequence[str] = ("img", "label"),
        device: str = "cpu",
    ) -> None:
        self.tokenizer = load_tokenizer(tokenizer).to(device)
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)
        self.device = device

    def transform(self, results: dict) -> dict:
        """Tokenize the clip."""
        images = torch.from_numpy(clip_images(results, self.keys, "VQGANTokenize")).permute(0, 3, 1, 2)
        results["tokens"] = encode_images(self.tokenizer, images.to(self.device)).cpu().numpy()
        results["grid"] = tuple(side // self.tokenizer.downsample_factor for side in images.shape[2:])
        return results
