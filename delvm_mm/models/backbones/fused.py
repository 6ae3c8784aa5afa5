"""Element-wise steps of a decoder layer that keep little for the backward pass.

Written out op by op, autograd keeps every intermediate of a norm, a rotation or a gate. Each function here keeps its
inputs only and computes the rest again, which is cheaper than the memory it saves. A compiler fuses and recomputes by
itself, and a tracer has to see the operations: both get the formula written out.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last dimension, in float32 (Zhang and Sennrich, 2019, arXiv 1910.07467).

    Args:
        hidden: ... x C.
        weight: C.
        eps: Added to the mean of squares.

    Returns:
        ... x C, in the type of ``hidden`` times that of ``weight``.
    """
    if _is_traced():
        scale = torch.rsqrt(hidden.float().square().mean(-1, keepdim=True) + eps)
        return weight * (hidden.float() * scale).to(hidden.dtype)
    return _RMSNorm.apply(hidden, weight, eps)


def gated_linear(gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
    """``(silu(gate) * up) @ weight.T``, the second half of SwiGLU (Shazeer, 2020, arXiv 2002.05202).

    Args:
        gate: ... x F, in the type to multiply in.
        up: The same shape and type.
        weight: C x F, in any type.

    Returns:
        ... x C, in the type of ``gate``.
    """
    if _is_traced():
        return F.linear(F.silu(gate) * up, weight.to(gate.dtype))
    return _GatedLinear.apply(gate, up, weight)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate channel i with channel i + D/2 by the position's angle (half-rotation, as in the released weights).

    Args:
        x: ... x L x D.
        cos: L x D, or whatever broadcasts to ``x``, the two halves of D equal; without gradient.
        sin: Likewise.

    Returns:
        ... x L x D.
    """
    if _is_traced():
        first, second = x.chunk(2, dim=-1)
        return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)
    return _Rotate.apply(x, cos, sin)


def _is_traced() -> bool:
    # torch.compiler.is_compiling is younger than torch 2.1.
    is_compiling = getattr(torch.compiler, "is_compiling", None) or torch._dynamo.is_compiling
    return is_compiling() or torch.jit.is_tracing()


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = torch.rsqrt(hidden.float().square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(hidden, weight, scale)
        return weight * (hidden.float() * scale).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden, weight, scale = ctx.saved_tensors
        normed, grad = hidden.float() * scale, grad.float()
        grad_weight = (grad * normed).flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None
        grad = grad * weight.float()
        along = (grad * normed).mean(-1, keepdim=True)
        return torch.addcmul(grad, normed, along, value=-1).mul_(scale).to(hidden.dtype), grad_weight, None


class _GatedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up, weight)
        return F.linear(F.silu(gate).mul_(up), weight.to(gate.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, weight = ctx.saved_tensors
        activated = F.silu(gate)
        grad_weight = None
        if ctx.needs_input_grad[2]:
            grad_weight = (grad.flatten(0, -2).t() @ (activated * up).flatten(0, -2)).to(weight.dtype)
        grad = grad @ weight.to(grad.dtype)
        grad_up = activated.mul_(grad)
        return torch.ops.aten.silu_backward(grad.mul_(up), gate), grad_up, grad_weight


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _rotated(grad, *ctx.saved_tensors, -1), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    """Rotate forwards, or backwards with ``sign`` -1, which is the gradient."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    cos, sin = cos[..., :half], sin[..., :half]
    out = torch.empty_like(x)
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin, value=sign)
    return out
