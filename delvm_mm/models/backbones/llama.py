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

SCALED_POSITIONS = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""Type of scaled rotary positions -> what it needs."""


@MODELS.register_module()
class LLaMA(BaseModule):
    """A stack of LLaMA decoder layers with a final norm, and nothing else.

    Parameters are named as in Hugging Face ``LlamaModel`` (``layers.0.self_attn.q_proj.weight`` … ``norm.weight``).

    Args:
        arch: '80m', '300m', '1b', or a dict of ``embed_dims`` (C), ``num_layers``, ``num_heads`` and
            optionally ``feedforward_channels`` (by default 8/3 of C, rounded up to a multiple of 256), ``head_dim``
            (by default C / heads) and ``num_kv_heads``.
        max_positions: The context, in tokens. Defaults to 2048.
        qkv_bias: Whether the query, key, value and output projections have biases. Defaults to True.
        norm_eps: Epsilon of RMSNorm: 1e-5 in the published training, 1e-6 in the released Hugging Face
            export. Defaults to 1e-5.
        rope_base: Base of the rotary positions (Su et al., 2021). Defaults to 10000.
        rope_scaling: Stretched positions, as transformers writes them: ``rope_type`` 'linear' with ``factor``, or
            'llama3' with ``factor``, ``low_freq_factor``, ``high_freq_factor`` and
            ``original_max_position_embeddings``. Defaults to none.
        num_kv_heads: Heads of keys and values, each of which serves as many query heads (grouped-query attention,
            Ainslie et al., 2023, arXiv 2305.13245). Defaults to one for each query head.
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
        rope_scaling: Mapping[str, Any] | None = None,
        num_kv_heads: int | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        shape = resolve_arch(arch, num_kv_heads)
        self.arch = shape
        self.embed_dims = shape["embed_dims"]
        self.num_layers = shape["num_layers"]
        self.num_heads = shape["num_heads"]
        self.num_kv_heads = shape.get("num_kv_heads", self.num_heads)
        self.head_dim = shape.get("head_dim", self.embed_dims // self.num_heads)
        self.max_positions = max_positions
        self.rope_base = rope_base
        self.rope_scaling = dict(rope_scaling) if rope_scaling else None
        self.init_std = init_std
        self.with_cp = with_cp
        self.layers = nn.ModuleList(
            DecoderLayer(
                self.embed_dims,
                self.num_heads,
                shape["feedforward_channels"],
                qkv_bias,
                norm_eps,
                self.num_kv_heads,
                self.head_dim,
            )
            for _ in range(self.num_layers)
        )
        self.norm = RMSNorm(self.embed_dims, norm_eps)
        # Plain attributes, no buffers: neither a checkpoint nor DDP's broadcast has any use for the tables.
        self.rope_cos, self.rope_sin = rotary_table(self.head_dim, max_positions, rope_base, self.rope_scaling)
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
            rope_scaling=self.rope_scaling,
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
            self.rope_cos, self.rope_sin = (
                table.to(like.device, non_blocking=True) for table in (self.rope_cos, self.rope_sin)
            )
        return self.rope_cos[:length].to(like.dtype), self.rope_sin[:length].to(like.dtype)


class DecoderLayer(nn.Module):
    """Attention and SwiGLU, each behind a norm and beside a residual."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        qkv_bias: bool,
        norm_eps: float,
        num_kv_heads: int,
        head_dim: int,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(embed_dims, num_heads, qkv_bias, num_kv_heads, head_dim)
        self.mlp = SwiGLU(embed_dims, feedforward_channels)
        self.input_layernorm = RMSNorm(embed_dims, norm_eps)
        self.post_attention_layernorm = RMSNorm(embed_dims, norm_eps)

    def forward(self, hidden: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """Map B x L x C to B x L x C; arguments as for :class:`Attention`."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), rope, mask)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Attention(nn.Module):
    """Causal multi-head self-attention with rotary positions; heads may share keys and values."""

    def __init__(self, embed_dims: int, num_heads: int, bias: bool, num_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.causal = True  # VisionLLaMA may let patches see each other
        self.q_proj = nn.Linear(embed_dims, num_heads * head_dim, bias=bias)
        self.k_proj = nn.Linear(embed_dims, num_kv_heads * head_dim, bias=bias)
        self.v_proj = nn.Linear(embed_dims, num_kv_heads * head_dim, bias=bias)
        self.o_proj = nn.Linear(num_heads * head_dim, embed_dims, bias=bias)

    def forward(self, hidden: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """Compute attention.

        Args:
            hidden: B x L x C.
            rope: Cosines and sines, each L x D, D the channels of a head.
            mask: L x L, True where seen, or added to the scores; in place of the causal triangle.

        Returns:
            B x L x C.
        """
        query, key, value = (
            projection(hidden).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotate(query, *rope), rotate(key, *rope)
        if self.num_kv_heads != self.num_heads:
            # Repeated, as PyTorch's fused attention on CPUs, and before torch 2.5 everywhere, wants as many of each.
            key, value = (x.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1) for x in (key, value))
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=self.causal and mask is None)
        return self.o_proj(out.transpose(1, 2).flatten(2))


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


def rotary_table(
    head_dim: int, max_positions: int, base: float, scaling: Mapping[str, Any] | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions, each max_positions x head_dim, halves repeated.

    Args:
        head_dim: Channels of a head.
        max_positions: How many.
        base: Of the frequencies.
        scaling: As for :class:`LLaMA`.

    Returns:
        Both tables, float32.
    """
    frequency = rotary_frequencies(head_dim, base, scaling)
    angle = torch.outer(torch.arange(max_positions, dtype=torch.float32), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotary_frequencies(head_dim: int, base: float, scaling: Mapping[str, Any] | None = None) -> Tensor:
    """Angles a position, head_dim / 2 of them; arguments as for :func:`rotary_table`."""
    frequency = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    return _scaled(frequency, scaling) if scaling else frequency


def _scaled(frequency: Tensor, scaling: Mapping[str, Any]) -> Tensor:
    kind, given = scaling.get("rope_type", scaling.get("type")), dict(scaling)
    needed = SCALED_POSITIONS.get(kind)
    if needed is None or any(isinstance(given.get(name), bool | str | None) for name in needed):
        raise ValueError(
            f"rope_scaling is {given}, expected rope_type 'linear' with a factor, or 'llama3' with "
            f"{', '.join(SCALED_POSITIONS['llama3'])}"
        )
    if kind == "linear":
        return frequency / given["factor"]
    # Llama 3.1's: long waves are stretched, short ones are not, those between in part.
    factor, low, high, context = (given[name] for name in needed)
    turns = context * frequency / (2 * math.pi)  # over the context of the first training
    share = ((turns - low) / (high - low)).clamp(0, 1)
    return frequency * (share + (1 - share) / factor)


def resolve_arch(arch: str | Mapping[str, int], num_kv_heads: int | None = None) -> dict[str, int]:
    """Check an architecture and fill in its SwiGLU width; ``head_dim`` and ``num_kv_heads`` stay where they say more.

    Args:
        arch: As for :class:`LLaMA`.
        num_kv_heads: In place of that of ``arch``.

    Returns:
        ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``, and those two where they are there.

    Raises:
        ValueError: It is unknown, or has missing, misspelled or impossible entries.
    """
    if isinstance(arch, str):
        if arch not in ARCHITECTURES:
            raise ValueError(f"arch is '{arch}', expected one of {sorted(ARCHITECTURES)} or a dict")
        shape = dict(ARCHITECTURES[arch])
    else:
        shape = dict(arch)
        required = {"embed_dims", "num_layers", "num_heads"}
        optional = ("feedforward_channels", "head_dim", "num_kv_heads")
        unknown = set(shape) - required - set(optional)
        if unknown or required - set(shape):
            raise ValueError(
                f"arch has the keys {sorted(shape)}, expected {sorted(required)} and optionally {', '.join(optional)}"
            )
    dims, heads = shape["embed_dims"], shape["num_heads"]
    head_dim = shape.pop("head_dim", None)
    if head_dim is None and (dims % heads or (dims // heads) % 2):
        raise ValueError(f"embed_dims {dims} cannot be split into {heads} heads of an even number of channels")
    if head_dim is not None and head_dim * heads != dims:
        if head_dim < 2 or head_dim % 2:
            raise ValueError(f"head_dim is {head_dim}, expected an even number of channels")
        shape["head_dim"] = head_dim
    kv_heads = shape.pop("num_kv_heads", None) if num_kv_heads is None else num_kv_heads
    shape.pop("num_kv_heads", None)
    if kv_heads not in (None, heads):
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"num_kv_heads is {kv_heads}, expected a number that divides num_heads, {heads}")
        shape["num_kv_heads"] = kv_heads
    shape.setdefault("feedforward_channels", math.ceil(8 * dims / 3 / 256) * 256)
    return shape
