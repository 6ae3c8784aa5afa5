"""Losses of knowledge distillation (Hinton et al., 2015, arXiv 1503.02531)."""

import torch.nn.functional as F
from torch import Tensor, nn

from delvm_mm.registry import MODELS


@MODELS.register_module()
class LogitsKLLoss(nn.Module):
    """KL divergence between the teacher's and the student's next-token distributions, in nats.

    ``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, the mean over all tokens.

    Args:
        temperature (float): T > 0; both logits are divided by it. Defaults to 1.
        inverse (bool): ``KL(student || teacher)`` instead. Defaults to False.
        loss_weight (float): Factor of the result. Defaults to 1.

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
            student_logits (Tensor): ... x K.
            teacher_logits (Tensor): The same shape; without gradient.

        Returns:
            Tensor: A float32 scalar.

        Raises:
            ValueError: If the shapes differ.
        """
        if student_logits.shape != teacher_logits.shape:
            raise ValueError(
                f"student logits are {tuple(student_logits.shape)} and teacher logits {tuple(teacher_logits.shape)}; "
                "both models must have the same vocabulary and read the same tokens"
            )
        student, teacher = (
            F.log_softmax(logits.float() / self.temperature, dim=-1).flatten(0, -2)
            for logits in (student_logits, teacher_logits)
        )
        if self.inverse:
            student, teacher = teacher, student
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.loss_weight * self.temperature**2 * divergence
