"""Images to tokens and back, and between uint8 and floats in [0, 1]: the one place for both."""

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["decode_images", "encode_images", "to_float", "to_uint8"]


def to_float(images: Tensor) -> Tensor:
    """uint8 values 0 to 255 as float32 in [0, 1]; any shape. Floats stay as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def to_uint8(images: Tensor) -> list[np.ndarray]:
    """Images N x 3 x H x W as N arrays H x W x 3, uint8; floats are clamped to [0, 1] and rounded."""
    if images.dtype != torch.uint8:
        images = (images.float().clamp(0, 1) * 255).round().byte()
    return list(images.permute(0, 2, 3, 1).cpu().numpy())


@torch.inference_mode()
def encode_images(tokenizer: nn.Module, images: Tensor, precision: str = "float32") -> Tensor:
    """Tokens of uint8 images.

    Args:
        tokenizer: Its ``encode`` takes floats in [0, 1].
        images: uint8, N x 3 x H x W, RGB, on the tokenizer's device.
        precision: 'float32' or 'bfloat16', of the convolutions; the nearest code is always found in float32.

    Returns:
        LongTensor N x (h*w).
    """
    images = images.contiguous(memory_format=torch.channels_last).float() / 255
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        return tokenizer.encode(images)


@torch.no_grad()
def decode_images(tokenizer: nn.Module, tokens: Tensor, grid: tuple[int, int] | None = None) -> list[np.ndarray]:
    """Images of tokens N x (h*w): N arrays H x W x 3, uint8. ``grid`` is (h, w), by default a square."""
    return to_uint8(tokenizer.decode(tokens, grid))
