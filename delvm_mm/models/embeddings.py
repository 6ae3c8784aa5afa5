"""Token embeddings: what stands for a code at the input of the decoder."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from delvm_mm.registry import MODELS


@MODELS.register_module()
class CodebookEmbedding(BaseModule):
    """The tokenizer's frozen code vector through one trained linear layer without bias, as published.

    The code vectors are a buffer that checkpoints carry (8192 x 64 values are 2 MiB), so that a checkpoint means the
    same wherever it is loaded.

    Args:
        embed_dims: Width C of the decoder.
        codebook: K x D code vectors. Without it, ``num_embeddings`` and ``codebook_dims`` say its
            shape and a checkpoint must fill it.
        num_embeddings: K, where no ``codebook`` is given.
        codebook_dims: D, where no ``codebook`` is given.
        init_std: Standard deviation of the initial projection. Defaults to 0.0052.
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: If neither a codebook nor its shape is given.
    """

    def __init__(
        self,
        embed_dims: int,
        codebook: Tensor | None = None,
        num_embeddings: int | None = None,
        codebook_dims: int | None = None,
        init_std: float = 0.0052,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if codebook is None:
            if num_embeddings is None or codebook_dims is None:
                raise ValueError(
                    "CodebookEmbedding needs a codebook: build it in a DeLVM with a tokenizer, or give both "
                    "num_embeddings and codebook_dims and load a checkpoint"
                )
            codebook = torch.zeros(num_embeddings, codebook_dims)
        self.register_buffer("codebook", codebook.detach().clone().float())
        self.projection = nn.Linear(self.codebook.shape[1], embed_dims, bias=False)
        nn.init.normal_(self.projection.weight, std=init_std)

    @property
    def num_embeddings(self) -> int:
        """Size K of the codebook."""
        return self.codebook.shape[0]

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed int64 tokens B x L as B x L x C."""
        return self.projection(F.embedding(tokens, self.codebook))


@MODELS.register_module()
class TokenEmbedding(BaseModule):
    """A plain trained table, K x C: the alternative to :class:`CodebookEmbedding`, and the form of released exports.

    Args:
        embed_dims: Width C of the decoder.
        num_embeddings: Size K of the codebook.
        init_std: Standard deviation of the initial table. Defaults to 0.0052.
        init_cfg: MMEngine's initialization config.
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
        self.weight = nn.Parameter(torch.empty(num_embeddings, embed_dims))
        nn.init.normal_(self.weight, std=init_std)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed int64 tokens B x L as B x L x C."""
        return F.embedding(tokens, self.weight)
