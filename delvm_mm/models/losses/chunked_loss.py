"""Next-token losses that never hold the logits of a whole batch.

Of 16 sentences of 2048 tokens over 8192 codes, one float32 copy of the logits is 1 GiB, and cross-entropy with a KL
term keeps several. Here the projection onto the codes and all losses on the logits are computed together, a chunk of
tokens at a time, and so is the gradient: the chunk is forgotten before the next one begins, and nothing is computed
twice.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class LossTerm(Protocol):
    """A loss on the logits beside the cross-entropy, such as the distance to a teacher.

    Attributes:
        name: Its key in the log; it begins with 'loss_'.
    """

    name: str

    def __call__(self, logits: Tensor, rows: slice) -> tuple[Tensor, Tensor | None]:
        """Compute the loss of some rows.

        Args:
            logits: float32, n x K; must not be changed.
            rows: Which n of all N tokens these are.

        Returns:
            The sum over the rows of the weighted loss, a float32 scalar, and its gradient
            with respect to ``logits``, n x K, which may be None where gradients are off.
        """


def next_token_losses(
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    terms: Sequence[LossTerm] = (),
    chunk_tokens: int | None = None,
    loss_weight: float = 1.0,
) -> dict[str, Tensor]:
    """Mean cross-entropy of ``features @ weight.T`` and other losses on these logits, in nats.

    Values and gradients are those of the plain form; the logits of ``chunk_tokens`` tokens are the most that exists at
    a time. The gradient is computed with the values, so its memory, N x C and K x C, is held until the backward pass.

    Args:
        features: N x C. Under autocast, products are in its type; losses are in float32 always.
        weight: K x C.
        labels: int64, N.
        terms: Further losses.
        chunk_tokens: Tokens whose logits are computed at a time, by default 256 on CPUs and 2048
            elsewhere.
        loss_weight: Factor of the cross-entropy.

    Returns:
        ``loss_ce`` and the mean of each term by its name, float32 scalars. What is summed for the
        backward pass must be all of them with equal weights, as MMEngine does: ``loss_ce`` carries the gradient of the
        sum, the others carry none. Weights belong into the terms.

    Raises:
        ValueError: If two terms have the same name, or one takes that of the cross-entropy.
    """
    names = ["loss_ce", *(term.name for term in terms)]
    if len(set(names)) < len(names):
        raise ValueError(f"losses must have names of their own, got {names}")
    chunk_tokens = chunk_tokens or (256 if features.device.type == "cpu" else 2048)
    total, means = _ChunkedLosses.apply(
        features, weight, labels, tuple(terms), chunk_tokens, loss_weight, torch.is_grad_enabled()
    )
    losses = dict(zip(names, means.unbind(), strict=True))
    losses["loss_ce"] = total - means[1:].sum()
    return losses


class _ChunkedLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        labels: Tensor,
        terms: tuple[LossTerm, ...],
        chunk_tokens: int,
        loss_weight: float,
        with_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        # What autocast would multiply in; a probe, because asking for it differs between versions of PyTorch.
        dtype = F.linear(features[:1], weight[:1]).dtype
        inputs, projection = features.to(dtype), weight.to(dtype)
        sums = torch.zeros(1 + len(terms), device=features.device)
        grad_features = torch.empty_like(inputs) if with_grad and ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if with_grad and ctx.needs_input_grad[1] else None
        for start in range(0, len(inputs), chunk_tokens):
            rows = slice(start, min(start + chunk_tokens, len(inputs)))
            logits = F.linear(inputs[rows], projection).float()
            gradient, values = _losses_of_rows(logits, labels[rows], loss_weight, terms, rows)
            sums += values
            if not with_grad:
                continue
            gradient = gradient.to(dtype)
            if grad_features is not None:
                torch.mm(gradient, projection, out=grad_features[rows])
            if grad_weight is not None and dtype == torch.float32:
                grad_weight.addmm_(gradient.t(), inputs[rows])
            elif grad_weight is not None:
                grad_weight += gradient.t() @ inputs[rows]
        ctx.save_for_backward(grad_features, grad_weight)
        ctx.types, ctx.count = (features.dtype, weight.dtype), len(inputs)
        means = sums / len(inputs)
        ctx.mark_non_differentiable(means)
        return means.sum(), means

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        # Scaled here and not before: with a loss scale, the means' gradients would vanish in float16.
        scale = grad.float() / ctx.count
        grads = [
            None if part is None else (part.float() * scale).to(dtype)
            for part, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        ]
        return *grads, None, None, None, None, None


def _losses_of_rows(
    logits: Tensor, labels: Tensor, loss_weight: float, terms: tuple[LossTerm, ...], rows: slice
) -> tuple[Tensor, Tensor]:
    """Gradient n x K of the sum of all losses over some rows, and the sums."""
    values, gradients = [], []
    for term in terms:
        value, gradient = term(logits, rows)
        values.append(value)
        gradients.append(gradient)
    log_probs = F.log_softmax(logits, dim=-1)
    chosen = labels[:, None]
    cross_entropy = -loss_weight * log_probs.gather(1, chosen).sum()
    total = log_probs.exp_()
    total.scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=total.dtype))
    if loss_weight != 1:
        total *= loss_weight
    for gradient in gradients:
        if gradient is not None:
            total += gradient
    return total, torch.stack([cross_entropy, *values])
