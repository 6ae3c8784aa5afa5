"""Distillation from a teacher's most likely codes: KL divergence and its gradient in closed form.

The k codes that are known and "any other code" are k + 1 events, and the loss is the KL divergence over these. For
k = K it is that of :class:`LogitsKLLoss`; for less it is a lower bound of it (data processing inequality), and the
student shares out the mass of the rest as it likes.
"""

import math

import torch
from torch import Tensor

from delvm_mm.models.losses.distillation import LogitsKLLoss

__all__ = ["CachedTeacherTerm"]

CACHED_VALUES = 2**19  # of logits in float32: 2 MiB
LOG_TINY = math.log(torch.finfo(torch.float32).tiny)


class CachedTeacherTerm:
    """The loss term ``loss_kd`` of one batch, from what a teacher cache holds of it.

    With p, r the teacher's probabilities of its top codes and of the rest, and q the student's, softmax(logits / T):
    ``T^2 * (sum_i p_i log(p_i / q_i) + r log(r / q_rest))``, or with p and q exchanged where ``inverse``. The
    probabilities p, r are scaled to the sum 1, from which rounding in the cache may have moved them. A rest of less
    than 1e-38, the smallest of float32, counts as that where k < K, so that the inverse divergence is finite.

    Args:
        loss: Its ``temperature`` has to be that of the probabilities.
        codes: int64, N x k, no code twice in a row; on the device of the logits.
        log_probs: float, N x k.
        log_rest: float, N; not used where k = K.
        factor: Multiplies the loss, for a schedule. Defaults to 1.
    """

    name = "loss_kd"

    def __init__(
        self, loss: LogitsKLLoss, codes: Tensor, log_probs: Tensor, log_rest: Tensor, factor: float = 1.0
    ) -> None:
        self.loss = loss
        self.factor = factor
        self.codes = codes
        self.log_probs = log_probs
        self.log_rest = log_rest

    def __call__(self, logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Loss and gradient of some tokens.

        Args:
            logits: The student's, float32, n x K; neither changed nor kept.
            rows: Which of the N tokens these are.

        Returns:
            The sum of the loss over these tokens, times its weight (no dimension), and the
            gradient of that sum with respect to ``logits`` (n x K), both in the type of ``logits``.
        """
        start = 0 if rows.start is None else rows.start
        # Six passes over the logits are what this loss costs; on CPUs they stay in a core's cache.
        size = len(logits) if logits.is_cuda else max(CACHED_VALUES // logits.shape[1], 1)
        gradient = torch.empty_like(logits)
        value = logits.new_zeros(())
        for first in range(0, len(logits), size):
            block = slice(first, min(first + size, len(logits)))
            value += self._block(logits.detach()[block], gradient[block], slice(start + first, start + block.stop))
        return value, gradient

    def _block(self, logits: Tensor, gradient: Tensor, rows: slice) -> Tensor:
        """Fill ``gradient`` and return the loss."""
        codes, log_p = self.codes[rows], self.log_probs[rows].to(logits)
        torch.div(logits, self.loss.temperature, out=gradient)
        top = gradient.gather(1, codes)
        if codes.shape[1] == logits.shape[1]:
            value, of_top = self._divergence(top, log_p)
            gradient.scatter_(1, codes, of_top)
            return value
        # The other codes' logits become their shares of the rest's mass: nothing is lost where that mass is tiny, as
        # it would be in 1 minus the mass of the top.
        gradient.scatter_(1, codes, -torch.inf)
        largest = gradient.amax(dim=-1, keepdim=True)
        total = gradient.sub_(largest).exp_().sum(dim=-1, keepdim=True)
        log_rest = self.log_rest[rows, None].to(logits).clamp(min=LOG_TINY)
        value, of_events = self._divergence(
            torch.cat((top, largest + total.log()), dim=-1), torch.cat((log_p, log_rest), dim=-1)
        )
        gradient.mul_(of_events[:, -1:] / total).scatter_(1, codes, of_events[:, :-1])
        return value

    def _divergence(self, events: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """The loss over n x (k + 1) events, given as logits over T, and its gradient for these logits times T."""
        value, gradient = self.loss.sum_and_gradient_of(events.log_softmax(dim=-1), log_p.log_softmax(dim=-1))
        return self.factor * value, self.factor * gradient
