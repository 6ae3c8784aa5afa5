"""Tokenizing inside a pipeline, for training without a token store; in bulk, use ``tools/tokenize_dataset.py``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv.transforms import BaseTransform

from delvm_mm.models import load_tokenizer
from delvm_mm.registry import TRANSFORMS

from .formatting import clip_pictures

__all__ = ["VQGANTokenize"]


@TRANSFORMS.register_module()
class VQGANTokenize(BaseTransform):
    """Turn the pictures of a clip into tokens: adds ``tokens`` (int64 array k × (h*w)) and ``grid`` (h, w).

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
        from ..tokenization import encode_pictures  # it needs this package's formatting first

        pictures = torch.from_numpy(clip_pictures(results, self.keys, "VQGANTokenize")).permute(0, 3, 1, 2)
        results["tokens"] = encode_pictures(self.tokenizer, pictures.to(self.device)).cpu().numpy()
        results["grid"] = tuple(side // self.tokenizer.downsample_factor for side in pictures.shape[2:])
        return results
