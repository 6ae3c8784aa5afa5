"""Next-token losses that never hold the logits of a whole batch.

Of 16 sentences of 2048 tokens over 8192 codes, one float32 copy of the logits is 1 GiB, and cross-entropy with a KL
term keeps several. Here the projection onto the codes and all losses on the logits are computed together, a chunk of
tokens at a time, and so is the gradient of their sum: the chunk is forgotten before the next one begins. Only where the
losses are weighed afterwards, the backward pass computes the chunks again.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from delvm_mm.hardware import autocast_dtype


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
    token_weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Mean cross-entropy of ``features @ weight.T`` and other losses on these logits, in nats.

    Values and gradients are those of the plain form; the logits of ``chunk_tokens`` tokens are the most that exists at
    a time. The gradient of their sum is computed with the values, so its memory, N x C and K x C, is held until the
    backward pass. Losses that are weighed unequally before that, such as ``loss_ce + 0.5 * loss_kd``, have the right
    gradient too, at the price of computing the chunks again: give constant weights to the terms instead.

    Args:
        features: N x C. Under autocast, products are in its type; losses are in float32 always.
        weight: K x C.
        labels: int64, N.
        terms: Further losses.
        chunk_tokens: Tokens whose logits are computed at a time, by default 256 on CPUs and 2048
            elsewhere.
        loss_weight: Factor of the cross-entropy.
        token_weights: float32, N: how much each token's cross-entropy counts. The sum is divided by
            N all the same: let their mean be 1.

    Returns:
        ``loss_ce`` and the mean of each term by its name, float32 scalars with a gradient each.

    Raises:
        ValueError: If two terms have the same name, or one takes that of the cross-entropy.
    """
    names = ["loss_ce", *(term.name for term in terms)]
    if len(set(names)) < len(names):
        raise ValueError(f"losses must have names of their own, got {names}")
    chunk_tokens = chunk_tokens or (256 if features.device.type == "cpu" else 2048)
    means = _ChunkedLosses.apply(
        features, weight, labels, tuple(terms), chunk_tokens, loss_weight, torch.is_grad_enabled(), token_weights
    )
    return dict(zip(names, means, strict=True))


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
        token_weights: Tensor | None,
    ) -> tuple[Tensor, ...]:
        # What autocast would multiply in; a probe, because asking for it differs between versions of PyTorch.
        dtype = F.linear(features[:1], weight[:1]).dtype
        inputs, projection = features.to(dtype), weight.to(dtype)
        needs = [with_grad and need for need in ctx.needs_input_grad[:2]]
        weights = [loss_weight, *(1.0 for _ in terms)]
        sums, *grads = _sums_and_gradients(
            inputs, projection, labels, token_weights, terms, weights, chunk_tokens, needs
        )
        again = (inputs, projection, labels, token_weights) if terms and any(needs) else ()
        ctx.save_for_backward(*grads, *again)
        ctx.terms, ctx.chunk_tokens, ctx.loss_weight, ctx.needs = terms, chunk_tokens, loss_weight, needs
        ctx.types, ctx.autocast = (features.dtype, weight.dtype), autocast_dtype(features.device.type)
        ctx.count = len(inputs)
        return tuple(value / len(inputs) for value in sums)

    @staticmethod
    def backward(ctx: Any, *of_losses: Tensor) -> tuple[Tensor | None, ...]:
        *grads, scale = _ChunkedLosses._weighed(ctx, of_losses)
        # Scaled here and not before: with a loss scale, the means' gradients would vanish in float16.
        scale = scale / ctx.count
        grads = [
            None if part is None else (part.float() * scale).to(dtype)
            for part, dtype in zip(grads, ctx.types, strict=True)
        ]
        return *grads, None, None, None, None, None, None

    @staticmethod
    def _weighed(ctx: Any, of_losses: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None, Tensor]:
        # The gradient and what to multiply it with, for any weights of the losses. Behind a plain sum all gradients
        # are one tensor; only where they are not, values are compared, for which the host waits for the device.
        grads, first = ctx.saved_tensors[:2], of_losses[0]
        if all(grad is first for grad in of_losses):
            return *grads, first.float()
        grad = torch.stack(of_losses).float()
        if bool((grad == grad[0]).all()):
            return *grads, grad[0]
        scale = grad.abs().max()
        ce_weight, *weights = (grad / scale).tolist()
        with torch.autocast(grad.device.type, dtype=ctx.autocast, enabled=ctx.autocast is not None):
            _, *grads = _sums_and_gradients(
                *ctx.saved_tensors[2:], ctx.terms, [ce_weight * ctx.loss_weight, *weights], ctx.chunk_tokens, ctx.needs
            )
        return *grads, scale


def _sums_and_gradients(
    inputs: Tensor,
    projection: Tensor,
    labels: Tensor,
    token_weights: Tensor | None,
    terms: Sequence[LossTerm],
    weights: Sequence[float],
    chunk_tokens: int,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Sums of the weighed losses over all rows, and their total's gradients N x C and K x C where they are needed."""
    sums = torch.zeros(1 + len(terms), device=inputs.device)
    grad_inputs = torch.empty_like(inputs) if needs[0] else None
    grad_projection = torch.zeros_like(projection, dtype=torch.float32) if needs[1] else None
    for start in range(0, len(inputs), chunk_tokens):
        rows = slice(start, min(start + chunk_tokens, len(inputs)))
        logits = F.linear(inputs[rows], projection).float()
        own = None if token_weights is None else token_weights[rows, None]
        gradient, values = _losses_of_rows(logits, labels[rows], own, terms, weights, rows)
        sums += values
        if not any(needs):
            continue
        gradient = gradient.to(inputs.dtype)
        if grad_inputs is not None:
            torch.mm(gradient, projection, out=grad_inputs[rows])
        if grad_projection is not None and inputs.dtype == torch.float32:
            grad_projection.addmm_(gradient.t(), inputs[rows])
        elif grad_projection is not None:
            grad_projection += gradient.t() @ inputs[rows]
    return sums, grad_inputs, grad_projection


def _losses_of_rows(
    logits: Tensor,
    labels: Tensor,
    token_weights: Tensor | None,
    terms: Sequence[LossTerm],
    weights: Sequence[float],
    rows: slice,
) -> tuple[Tensor, Tensor]:
    """Gradient n x K of the sum of all weighed losses over some rows, and the sums."""
    values, gradients = [], []
    ce_weight, *weights = weights
    for term, weight in zip(terms, weights, strict=True):
        value, gradient = term(logits, rows) if weight else (logits.new_zeros(()), None)
        values.append(value if weight == 1 else weight * value)
        gradients.append(gradient if weight == 1 or gradient is None else weight * gradient)
    log_probs = F.log_softmax(logits, dim=-1)
    chosen = labels[:, None]
    chosen_log_probs = log_probs.gather(1, chosen)
    if token_weights is not None:
        chosen_log_probs = chosen_log_probs * token_weights
    cross_entropy = -ce_weight * chosen_log_probs.sum()
    total = log_probs.exp_()
    total.scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=total.dtype))
    if ce_weight != 1:
        total *= ce_weight
    if token_weights is not None:
        total *= token_weights
    for gradient in gradients:
        if gradient is not None:
            total += gradient
    return total, torch.stack([cross_entropy, *values])
