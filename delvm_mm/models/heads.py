"""The head that turns decoder features into next-token logits, and its loss."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from delvm_mm.models.losses.chunked_loss import LossTerm, next_token_losses
from delvm_mm.registry import MODELS


@MODELS.register_module()
class NextTokenHead(BaseModule):
    """One untied linear layer without bias, C -> K, with cross-entropy on every token.

    Token 0 is an ordinary code: nothing is left out of the loss.

    Args:
        embed_dims: Width C of the decoder.
        num_embeddings: Size K of the codebook.
        init_std: Standard deviation of the initial weights. Defaults to 0.0052.
        chunk_tokens: Tokens whose logits exist at a time in training. Defaults to 256 on CPUs, whose
            caches like few, and 2048 elsewhere: with 8192 codes 8 and 64 MiB in float32.
        loss_weight: Factor of the cross-entropy. Defaults to 1.
        init_cfg: MMEngine's initialization config.
    """

    def __init__(
        self,
        embed_dims: int,
        num_embeddings: int,
        init_std: float = 0.0052,
        chunk_tokens: int | None = None,
        loss_weight: float = 1.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if chunk_tokens is not None and chunk_tokens < 1:
            raise ValueError(f"chunk_tokens is {chunk_tokens}, expected at least 1")
        self.num_embeddings = num_embeddings
        self.chunk_tokens = chunk_tokens
        self.loss_weight = loss_weight
        self.projection = nn.Linear(embed_dims, num_embeddings, bias=False)
        nn.init.normal_(self.projection.weight, std=init_std)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ... x C to logits ... x K."""
        return self.projection(features)

    def loss_from_logits(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Mean cross-entropy in nats, in float32, of logits that are there already.

        Args:
            logits: B x L x K.
            labels: int64, B x L.

        Returns:
            ``loss_ce``.
        """
        return dict(loss_ce=self.loss_weight * F.cross_entropy(logits.float().flatten(0, 1), labels.flatten()))

    def loss_from_features(
        self,
        features: Tensor,
        labels: Tensor,
        terms: Sequence[LossTerm] = (),
        token_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Mean cross-entropy and other losses on the logits, without ever holding the logits of the whole batch.

        Args:
            features: B x L x C.
            labels: int64, B x L.
            terms: Further losses, such as the distance to a teacher.
            token_weights: float32, B x L, of mean 1: how much each token's cross-entropy counts.

        Returns:
            ``loss_ce`` and the terms' names; see :func:`next_token_losses`.

        Raises:
            ValueError: There are terms or weights, and the projection is no plain ``nn.Linear``.
        """
        if type(self.projection) is not nn.Linear:  # an adapter or a quantized layer stands in its place
            if terms or token_weights is not None:
                raise ValueError(
                    f"the head's projection is a {type(self.projection).__name__}: losses beside the cross-entropy "
                    "and weights of tokens need an nn.Linear"
                )
            return self.loss_from_logits(self(features), labels)
        return next_token_losses(
            features.flatten(0, 1),
            self.projection.weight,
            labels.flatten(),
            terms,
            self.chunk_tokens,
            self.loss_weight,
            None if token_weights is None else token_weights.flatten(),
        )
