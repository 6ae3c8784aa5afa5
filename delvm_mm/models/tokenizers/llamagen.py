"""LlamaGen's tokenizers (Sun et al., 2024, arXiv 2406.06525), ``vq_ds16`` and ``vq_ds8``, as :class:`VQGAN`.

They have the architecture of taming-transformers under other names, attention at the lowest resolution, and look codes
up among vectors of length 1.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from delvm_mm.checkpoints.io import load_checkpoint, load_into
from delvm_mm.models.tokenizers.conversion import config_of_shapes
from delvm_mm.models.tokenizers.vqgan import VQGAN

__all__ = ["is_llamagen", "vqgan_from_llamagen"]

_BLOCKS = re.compile(r"(encoder|decoder)\.conv_blocks\.(\d+)\.(res|attn|downsample|upsample)\.(.*)$")
_MIDDLE = re.compile(r"(encoder|decoder)\.mid\.(\d)\.(.*)$")
_MIDDLE_PARTS = ("block_1", "attn_1", "block_2")


def is_llamagen(weights: Mapping[str, Tensor]) -> bool:
    """Whether names are those of LlamaGen's ``VQModel``."""
    return "encoder.conv_blocks.0.res.0.conv1.weight" in weights


def weights_in(checkpoint: Mapping) -> Mapping[str, Tensor]:
    """The weights of a checkpoint that holds them under 'ema' or 'model'; averaged ones come first."""
    return next((checkpoint[name] for name in ("ema", "model") if name in checkpoint), checkpoint)


def vqgan_from_llamagen(path: str | Path, symmetric_pixels: bool = True, resolution: int = 256) -> VQGAN:
    """Read ``vq_ds16_c2i.pt``, ``vq_ds16_t2i.pt`` or ``vq_ds8_c2i.pt``; its shapes say all that is needed.

    Codes are stored with length 1, as they are looked up and decoded.

    Args:
        path: The file. Nothing in it is executed.
        symmetric_pixels: Whether it was trained on images in [-1, 1], as all published ones were.
        resolution: Side in pixels of its training images; a name for where attention is, nothing else.

    Returns:
        In eval mode.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, wants to run code, or is no such tokenizer.
    """
    given = weights_in(load_checkpoint(path))
    if not isinstance(given, Mapping) or not is_llamagen(given):
        raise ValueError(f"{path} is no tokenizer of LlamaGen: it has no encoder.conv_blocks.0.res.0.conv1.weight")
    levels = 1 + max(int(found[2]) for name in given if (found := _BLOCKS.match(name)))
    weights = {
        taming_name(name, levels): value.float() for name, value in given.items() if name != "quantize.codebook_used"
    }
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    vqgan = VQGAN(**config_of_shapes(shapes, path, resolution), symmetric_pixels=symmetric_pixels, unit_vectors=True)
    code = "quantize.embedding.weight"
    load_into(vqgan, weights | {code: F.normalize(weights[code], dim=-1)}, path)
    return vqgan.eval()


def taming_name(name: str, levels: int) -> str:
    """LlamaGen's state-dict key as taming-transformers and ``VQGAN`` have it.

    Args:
        name: Such as ``decoder.conv_blocks.0.res.1.conv1.weight``; there levels count from the lowest resolution.
        levels: How many there are.

    Returns:
        Such as ``decoder.up.4.block.1.conv1.weight``.
    """
    if found := _BLOCKS.match(name):
        part, number, kind, rest = found.groups()
        level = int(number) if part == "encoder" else levels - 1 - int(number)
        return f"{part}.{'down' if part == 'encoder' else 'up'}.{level}.{'block' if kind == 'res' else kind}.{rest}"
    if found := _MIDDLE.match(name):
        return f"{found[1]}.mid.{_MIDDLE_PARTS[int(found[2])]}.{found[3]}"
    return name
