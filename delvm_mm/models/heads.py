"""The head that turns decoder features into next-token logits, and its loss."""

from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from delvm_mm.registry import MODELS


@MODELS.register_module()
class NextTokenHead(BaseModule):
    """One untied linear layer without bias, C -> K, with cross-entropy on every token.

    Token 0 is an ordinary code: nothing is left out of the loss.

    Args:
        embed_dims (int): Width C of the decoder.
        num_embeddings (int): Size K of the codebook.
        init_std (float): Standard deviation of the initial weights. Defaults to 0.0052.
        init_cfg (dict, optional): MMEngine's initialisation config.
    """

    def __init__(
        self,
        embed_dims: int,
        num_embeddings: int,
        init_std: float = 0.0052,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_embeddings = num_embeddings
        self.projection = nn.Linear(embed_dims, num_embeddings, bias=False)
        nn.init.normal_(self.projection.weight, std=init_std)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ... x C to logits ... x K."""
        return self.projection(features)

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Mean cross-entropy in nats, in float32.

        Args:
            logits (Tensor): B x L x K.
            labels (Tensor): int64, B x L.

        Returns:
            dict[str, Tensor]: ``loss_ce``.
        """
        return dict(loss_ce=F.cross_entropy(logits.float().flatten(0, 1), labels.flatten()))
