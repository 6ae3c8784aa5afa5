"""Losses of distillation beside the student's cross-entropy."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delvm_mm.registry import MODELS


@MODELS.register_module()
class LogitsKLLoss(nn.Module):
    """KL divergence between the teacher's and the student's next-token distributions, in nats.

    ``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, the mean over all tokens.

    Args:
        temperature: T > 0; both logits are divided by it. Defaults to 1.
        inverse: ``KL(student || teacher)`` instead. Defaults to False.
        loss_weight: Factor of the result. Defaults to 1.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """

    def __init__(self, temperature: float = 1.0, inverse: bool = False, loss_weight: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}, expected more than 0")
        self.temperature = temperature
        self.inverse = inverse
        self.loss_weight = loss_weight

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student_logits: ... x K.
            teacher_logits: The same shape; without gradient.

        Returns:
            A float32 scalar.

        Raises:
            ValueError: If the shapes differ.
        """
        student, teacher = self._log_probs(student_logits, teacher_logits)
        if self.inverse:
            student, teacher = teacher, student
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.loss_weight * self.temperature**2 * divergence

    def sum_and_gradient(self, student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over all tokens, instead of the mean, and its gradient in closed form.

        Args:
            student_logits: ... x K.
            teacher_logits: The same shape.

        Returns:
            A float32 scalar, and n x K with respect to ``student_logits``, n all tokens.
        """
        return self.sum_and_gradient_of(*self._log_probs(student_logits, teacher_logits))

    def sum_and_gradient_of(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`sum_and_gradient`, of distributions that are normalized already.

        Args:
            student: Log-probabilities n x E of any E events at the loss's temperature; overwritten.
            teacher: The same shape; overwritten.

        Returns:
            A scalar, and n x E with respect to the student's logits of the events.
        """
        # d KL(p || q) / d logits is q - p for the teacher's p, and q * (log q - log p - KL) for the student's own q.
        difference = student - teacher
        if self.inverse:
            probs = student.exp_()
            divergence = (probs * difference).sum(-1, keepdim=True)
            gradient = difference.sub_(divergence).mul_(probs)
        else:
            probs = teacher.exp_()
            divergence = -(probs * difference).sum(-1, keepdim=True)
            gradient = student.exp_().sub_(probs)
        scale = self.loss_weight * self.temperature
        return scale * self.temperature * divergence.sum(), gradient.mul_(scale)

    def _log_probs(self, student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
        if student_logits.shape != teacher_logits.shape:
            raise ValueError(
                f"student logits are {tuple(student_logits.shape)} and teacher logits {tuple(teacher_logits.shape)}; "
                "both models must have the same vocabulary and read the same tokens"
            )
        student, teacher = (
            F.log_softmax(logits.float() / self.temperature, dim=-1).flatten(0, -2)
            for logits in (student_logits, teacher_logits)
        )
        return student, teacher


@MODELS.register_module()
class SimilarityLoss(nn.Module):
    """Distance between the token-to-token similarities of two models (Tung and Mori, ICCV 2019, arXiv 1907.09682).

    Features of a sentence are compared with each other by their cosine, L x L, and the two models' tables by their mean
    squared difference: widths may differ, and nothing has to be learned for it.

    Args:
        loss_weight: Factor of the result. Defaults to 1.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare features B x L x C of the student with B x L x C' of the teacher; a float32 scalar."""
        ours, theirs = (F.normalize(features.float(), dim=-1) for features in (student, teacher))
        return self.loss_weight * F.mse_loss(ours @ ours.transpose(1, 2), theirs @ theirs.transpose(1, 2))


class TeacherTerm:
    """The distance between the student's logits and a teacher's, as a term of the chunked loss.

    Args:
        loss: ``loss(student_logits n x K, teacher_logits n x K)`` -> mean over the tokens, such as
            :class:`LogitsKLLoss`. One without ``sum_and_gradient`` is differentiated by autograd, chunk by chunk.
        features: N x C', the teacher's.
        head: The teacher's, C' -> K.
        factor: Multiplies the loss, for a schedule. Defaults to 1.
    """

    name = "loss_kd"

    def __init__(self, loss: nn.Module, features: Tensor, head: nn.Module, factor: float = 1.0) -> None:
        self.loss, self.features, self.head, self.factor = loss, features, head, factor

    def __call__(self, logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Sum of the loss over some rows and its gradient n x K with respect to ``logits``."""
        with torch.no_grad():
            teacher_logits = self.head(self.features[rows])
        if hasattr(self.loss, "sum_and_gradient"):
            value, gradient = self.loss.sum_and_gradient(logits, teacher_logits)
        else:
            with torch.enable_grad():
                logits = logits.detach().requires_grad_()
                value = self.loss(logits, teacher_logits) * len(logits)
            (gradient,) = torch.autograd.grad(value, logits)
        return self.factor * value.detach(), gradient.mul_(self.factor) if self.factor != 1 else gradient
