"""What a hook adds to the loss of a DeLVM."""

from collections.abc import Sequence

from torch import Tensor

from delvm_mm.models.losses.chunked_loss import LossTerm
from delvm_mm.structures import DataSample


class ExtraLoss:
    """Losses beside the model's own, added by appending to ``DeLVM.extra_losses``; by default there are none.

    For each batch ``prepare`` is called before the model reads it, then ``logit_terms`` and ``scalar_losses``.
    """

    def prepare(self, tokens: Tensor, data_samples: list[DataSample] | None) -> None:
        """Begin what takes long, such as a teacher that reads the same batch.

        Args:
            tokens: int64, B x L.
            data_samples: One a sentence, with its number, epoch and task.
        """

    def logit_terms(self) -> Sequence[LossTerm]:
        """Losses on the logits of the first L - 1 tokens of each sentence, N = B * (L - 1) rows."""
        return ()

    def scalar_losses(self) -> dict[str, Tensor]:
        """Other losses, scalars with a gradient; names that contain 'loss' are summed for the backward pass."""
        return {}
