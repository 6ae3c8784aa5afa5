"""Floating-point operations of training, by formula, and what a machine can do of them.

A multiplication and an addition are two. Per token of a sentence of L tokens, with N the weights of the matrices that
every token is multiplied with (four C x C and three C x F in each of the l layers, and the head's C x K) and attention
over the ``(L + 1) / 2`` tokens that the average one may see:

    forward   2 N + 2 l C (L + 1)
    training  6 N + 6 l C (L + 1)          the backward pass is two products for each of the forward pass

This is appendix B of PaLM (Chowdhery et al., 2022, arXiv 2204.02311), ``6 N + 12 l C L``, with two differences: PaLM
counts attention as if each token saw all L (twice as much; ``causal=False`` here), and all parameters in N, while
norms, biases and embedding tables, which are looked up, are left out here. So is everything elementwise, and the 64
channels of a ``CodebookEmbedding``.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from delvm_mm.models.backbones.llama import resolve_arch

Arch = str | Mapping[str, int]


def training_flops_per_token(
    arch: Arch,
    context: int,
    num_embeddings: int,
    teacher: Arch | None = None,
    recompute: bool = False,
    causal: bool = True,
) -> float:
    """Floating-point operations of a training step, for one token of it.

    Args:
        arch: The decoder's shape, as for :class:`~delvm_mm.models.LLaMA`.
        context: Tokens L of a sentence.
        num_embeddings: Codes K that the head chooses from.
        teacher: Shape of a teacher that reads the same tokens, forward only. Defaults to
            None.
        recompute: Count what activation checkpointing computes twice, the layers. These are operations of the
            hardware; utilization is usually stated without them. Defaults to False.
        causal: Count attention only over what a token may see. Defaults to True.

    Returns:
        Operations a token.

    Raises:
        ValueError: If a shape is unknown or impossible.
    """
    layers, head = _forward_parts(arch, context, num_embeddings, causal)
    total = 3 * (layers + head)
    if recompute:
        total += layers
    if teacher is not None:
        total += forward_flops_per_token(teacher, context, num_embeddings, causal)
    return total


def forward_flops_per_token(arch: Arch, context: int, num_embeddings: int, causal: bool = True) -> float:
    """Floating-point operations of a forward pass, for one token of it; arguments as above."""
    return sum(_forward_parts(arch, context, num_embeddings, causal))


@dataclass(frozen=True)
class MatrixPeak:
    """What a matrix product reached: ``flops`` a second with matrices of ``size`` x ``size`` in ``dtype``."""

    flops: float
    size: int
    dtype: torch.dtype


def measure_peak_flops(dtype: torch.dtype, device: torch.device | str = "cpu", seconds: float = 0.5) -> MatrixPeak:
    """The best rate of a large matrix product, in operations a second.

    Args:
        dtype: Of both matrices.
        device: Where. Defaults to the CPU, with as many threads as PyTorch has now.
        seconds: About how long to measure, after a first product that does not count. Defaults to 0.5.

    Returns:
        The best of the products.
    """
    device = torch.device(device)
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, end = float("inf"), None
    while end is None or time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        if end is None:
            end = now + seconds
        else:
            best = min(best, now - start)
    return MatrixPeak(2 * size**3 / best, size, dtype)


def _forward_parts(arch: Arch, context: int, num_embeddings: int, causal: bool) -> tuple[float, float]:
    """Operations of the layers and of the head."""
    shape = resolve_arch(arch)
    width, layers = shape["embed_dims"], shape["num_layers"]
    heads, head_dim = shape["num_heads"], shape.get("head_dim", width // shape["num_heads"])
    # Of queries and the output, and of keys and values.
    projections = 2 * width * head_dim * (heads + shape.get("num_kv_heads", heads))
    matrices = layers * (projections + 3 * width * shape["feedforward_channels"])
    seen = (context + 1) / 2 if causal else context
    # Queries with keys, and weights with values: 2 operations for each channel and every token seen.
    return 2 * matrices + layers * 4 * heads * head_dim * seen, 2 * width * num_embeddings
