"""The causal transformer decoder of LLaMA (Touvron et al., 2023, arXiv 2302.13971).

RMSNorm before each block, rotary positions, SwiGLU; biases on the query, key, value and output projections, as
published for DeLVM. It maps embeddings to features: embedding tables and heads are its neighbors.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from delvm_mm.models.backbones.fused import gated_linear, rms_norm, rotate
from delvm_mm.registry import MODELS

# Of 80M the authors published size and results, not the shape; this one is the common 12 x 768.
ARCHITECTURES: dict[str, dict[str, int]] = {
    "80m": dict(embed_dims=768, num_layers=12, num_heads=12),
    "300m": dict(embed_dims=1024, num_layers=22, num_heads=8),
    "1b": dict(embed_dims=2048, num_layers=22, num_heads=16),
}


@MODELS.register_module()
class LLaMA(BaseModule):
    """A stack of LLaMA decoder layers with a final norm, and nothing else.

    Parameters are named as in Hugging Face ``LlamaModel`` (``layers.0.self_attn.q_proj.weight`` … ``norm.weight``).

    Args:
        arch: '80m', '300m', '1b', or a dict of ``embed_dims`` (C), ``num_layers``, ``num_heads`` and
            optionally ``feedforward_channels`` (by default 8/3 of C, rounded up to a multiple of 256).
        max_positions: The context, in tokens. Defaults to 2048.
        qkv_bias: Whether the query, key, value and output projections have biases. Defaults to True.
        norm_eps: Epsilon of RMSNorm: 1e-5 in the published training, 1e-6 in the released Hugging Face
            export. Defaults to 1e-5.
        rope_base: Base of the rotary positions (Su et al., 2021). Defaults to 10000.
        init_std: Standard deviation of the initial weights; output projections of layer n (from 1) have
            ``init_std / sqrt(2n)``. Defaults to 0.006.
        with_cp: Gradient checkpointing: keep only the input of each layer and compute the rest again in the
            backward pass. Defaults to False.
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: If ``arch`` is unknown, or a dict with missing, misspelled or impossible entries.

    Examples:
        >>> model = LLaMA(dict(embed_dims=64, num_layers=2, num_heads=4))
        >>> model(torch.randn(1, 10, 64)).shape
        torch.Size([1, 10, 64])
    """

    def __init__(
        self,
        arch: str | Mapping[str, int] = "80m",
        max_positions: int = 2048,
        qkv_bias: bool = True,
        norm_eps: float = 1e-5,
        rope_base: float = 10000.0,
        init_std: float = 0.006,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        shape = resolve_arch(arch)
        self.arch = shape
        self.embed_dims = shape["embed_dims"]
        self.num_layers = shape["num_layers"]
        self.num_heads = shape["num_heads"]
        self.head_dim = self.embed_dims // self.num_heads
        self.max_positions = max_positions
        self.rope_base = rope_base
        self.init_std = init_std
        self.with_cp = with_cp
        self.layers = nn.ModuleList(
            DecoderLayer(self.embed_dims, self.num_heads, shape["feedforward_channels"], qkv_bias, norm_eps)
            for _ in range(self.num_layers)
        )
        self.norm = RMSNorm(self.embed_dims, norm_eps)
        # Plain attributes, no buffers: neither a checkpoint nor DDP's broadcast has any use for the tables.
        self.rope_cos, self.rope_sin = rotary_table(self.head_dim, max_positions, rope_base)
        self.reset_parameters()

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that say what it computes."""
        return dict(
            arch=dict(self.arch),
            max_positions=self.max_positions,
            qkv_bias=self.layers[0].self_attn.q_proj.bias is not None,
            norm_eps=self.norm.eps,
            rope_base=self.rope_base,
        )

    def reset_parameters(self) -> None:
        """Draw the published initial weights."""
        for number, layer in enumerate(self.layers, start=1):
            for name, parameter in layer.named_parameters():
                if name.endswith("bias"):
                    nn.init.zeros_(parameter)
                elif parameter.ndim == 2:
                    is_output = "o_proj" in name or "down_proj" in name
                    nn.init.normal_(
                        parameter, std=self.init_std / math.sqrt(2 * number) if is_output else self.init_std
                    )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Apply all layers and the final norm.

        Generation with a key/value cache has a decoder of its own, :mod:`delvm_mm.generation.decoder`.

        Args:
            embeddings: B x L x C.

        Returns:
            B x L x C.

        Raises:
            ValueError: If L passes ``max_positions``.
        """
        length = embeddings.shape[1]
        if length > self.max_positions:
            raise ValueError(
                f"a sentence of {length} tokens does not fit the context of {self.max_positions}; use fewer or smaller "
                "images, or a model with a larger max_positions"
            )
        rope = self._rope(length, embeddings)
        hidden = embeddings
        for layer in self.layers:
            if self.with_cp and self.training:
                hidden = checkpoint(layer, hidden, rope, use_reentrant=False)
            else:
                hidden = layer(hidden, rope)
        return self.norm(hidden)

    def _rope(self, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        if self.rope_cos.device != like.device:
            self.rope_cos, self.rope_sin = self.rope_cos.to(like.device), self.rope_sin.to(like.device)
        return self.rope_cos[:length].to(like.dtype), self.rope_sin[:length].to(like.dtype)


class DecoderLayer(nn.Module):
    """Attention and SwiGLU, each behind a norm and beside a residual."""

    def __init__(
        self, embed_dims: int, num_heads: int, feedforward_channels: int, qkv_bias: bool, norm_eps: float
    ) -> None:
        super().__init__()
        self.self_attn = Attention(embed_dims, num_heads, qkv_bias)
        self.mlp = SwiGLU(embed_dims, feedforward_channels)
        self.input_layernorm = RMSNorm(embed_dims, norm_eps)
        self.post_attention_layernorm = RMSNorm(embed_dims, norm_eps)

    def forward(self, hidden: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """Map B x L x C to B x L x C; arguments as for :class:`Attention`."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), rope, mask)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Attention(nn.Module):
    """Causal multi-head self-attention with rotary positions."""

    def __init__(self, embed_dims: int, num_heads: int, bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.causal = True  # VisionLLaMA may let patches see each other
        self.q_proj = nn.Linear(embed_dims, embed_dims, bias=bias)
        self.k_proj = nn.Linear(embed_dims, embed_dims, bias=bias)
        self.v_proj = nn.Linear(embed_dims, embed_dims, bias=bias)
        self.o_proj = nn.Linear(embed_dims, embed_dims, bias=bias)

    def forward(self, hidden: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """Compute attention.

        Args:
            hidden: B x L x C.
            rope: Cosines and sines, each L x (C / heads).
            mask: L x L, True where seen, or added to the scores; in place of the causal triangle.

        Returns:
            B x L x C.
        """
        batch, length, channels = hidden.shape
        query, key, value = (
            projection(hidden).view(batch, length, self.num_heads, channels // self.num_heads).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotate(query, *rope), rotate(key, *rope)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=self.causal and mask is None)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, channels))


class SwiGLU(nn.Module):
    """``down(silu(gate(x)) * up(x))`` (Shazeer, 2020, arXiv 2002.05202)."""

    def __init__(self, embed_dims: int, feedforward_channels: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(embed_dims, feedforward_channels, bias=False)
        self.up_proj = nn.Linear(embed_dims, feedforward_channels, bias=False)
        self.down_proj = nn.Linear(feedforward_channels, embed_dims, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ... x C to ... x C."""
        gate, up = self.gate_proj(hidden), self.up_proj(hidden)
        if type(self.down_proj) is nn.Linear:
            return gated_linear(gate, up, self.down_proj.weight)
        return self.down_proj(F.silu(gate) * up)  # an adapter or a quantized layer stands in its place


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32 (Zhang and Sennrich, 2019); ``torch.nn.RMSNorm`` needs torch 2.4."""

    def __init__(self, embed_dims: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(embed_dims))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ... x C to ... x C, in the type of ``hidden`` times that of the weight."""
        return rms_norm(hidden, self.weight, self.eps)


def rotary_table(head_dim: int, max_positions: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions, each max_positions x head_dim, halves repeated."""
    frequency = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = torch.outer(torch.arange(max_positions, dtype=torch.float32), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def resolve_arch(arch: str | Mapping[str, int]) -> dict[str, int]:
    """Check an architecture and fill in its SwiGLU width."""
    if isinstance(arch, str):
        if arch not in ARCHITECTURES:
            raise ValueError(f"arch is '{arch}', expected one of {sorted(ARCHITECTURES)} or a dict")
        shape = dict(ARCHITECTURES[arch])
    else:
        shape = dict(arch)
        required = {"embed_dims", "num_layers", "num_heads"}
        unknown = set(shape) - required - {"feedforward_channels"}
        if unknown or required - set(shape):
            raise ValueError(
                f"arch has the keys {sorted(shape)}, expected {sorted(required)} and optionally 'feedforward_channels'"
            )
    dims, heads = shape["embed_dims"], shape["num_heads"]
    if dims % heads or (dims // heads) % 2:
        raise ValueError(f"embed_dims {dims} cannot be split into {heads} heads of an even number of channels")
    shape.setdefault("feedforward_channels", math.ceil(8 * dims / 3 / 256) * 256)
    return shape
