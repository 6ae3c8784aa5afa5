"""A tokenizer of random weights: 32 px to 8 x 8 tokens of 32 codes."""

from pathlib import Path

import torch

from delvm_mm.models import VQGAN

SMALL_VQGAN = dict(
    resolution=32,
    hidden_channels=8,
    channel_mult=(1, 2, 2),
    num_res_blocks=1,
    z_channels=8,
    num_embeddings=32,
    quantized_embed_dim=8,
    norm_num_groups=4,
)


def write_small_vqgan(folder: str | Path = "tokenizer") -> None:
    """Write it with the weights of seed 0; the seed stays set for what is drawn behind it."""
    torch.manual_seed(0)
    VQGAN(**SMALL_VQGAN).save_pretrained(folder)
