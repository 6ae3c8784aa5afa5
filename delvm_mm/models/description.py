"""A built :class:`DeLVM` as the config that builds it again, and as weights that fit it."""

from typing import Any

import torch
from torch import Tensor, nn

from delvm_mm.checkpoints.io import check_fits
from delvm_mm.models.backbones.llama import LLaMA
from delvm_mm.models.delvm import DeLVM
from delvm_mm.models.embeddings import CodebookEmbedding, TokenEmbedding
from delvm_mm.models.heads import NextTokenHead
from delvm_mm.registry import MODELS

__all__ = ["describe_model", "weights_of"]


def describe_model(model: DeLVM) -> dict[str, Any]:
    """The config of a model that is built: plain values, nothing of its training and no tokenizer.

    Args:
        model: Of :class:`LLaMA`, :class:`CodebookEmbedding` or :class:`TokenEmbedding`, and :class:`NextTokenHead`.

    Returns:
        With which ``MODELS.build`` gives a model that :func:`weights_of` fits.

    Raises:
        ValueError: A part is of another class, or holds layers, such as adapters, that its class has not.
    """
    parts = dict(
        backbone=_known(model.backbone, LLaMA),
        embedding=_known(model.embedding, CodebookEmbedding, TokenEmbedding),
        head=_known(model.head, NextTokenHead),
    )
    backbone, embedding = parts["backbone"], parts["embedding"]
    size: dict[str, Any] = dict(num_embeddings=embedding.num_embeddings)
    if isinstance(embedding, CodebookEmbedding):
        size["codebook_dims"] = embedding.codebook.shape[1]
    config = dict(
        type="DeLVM",
        tokenizer=None,
        backbone=dict(type="LLaMA", **backbone.settings),
        embedding=dict(type=type(embedding).__name__, **size),
        head=dict(type="NextTokenHead", num_embeddings=parts["head"].num_embeddings),
    )
    if model.num_special_ids:
        config |= dict(num_special_ids=model.num_special_ids, bos_token=model.bos_token)
    for name in ("sampler", "generation"):
        if settings := getattr(model, name):
            config[name] = {key: _plain(value) for key, value in settings.items()}
    with torch.device("meta"):  # neither memory nor time
        check_fits(MODELS.build(config), weights_of(model), source="the model")
    return config


def weights_of(model: DeLVM, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """A model's weights without its tokenizer's.

    Args:
        model: On any device; its own tensors are given where ``dtype`` asks for nothing else.
        dtype: Of floating parameters. Buffers, such as a codebook, stay exact.

    Returns:
        Name in the state dict -> tensor.
    """
    parameters = {name for name, _ in model.named_parameters()}
    return {
        name: value if dtype is None or name not in parameters or not value.is_floating_point() else value.to(dtype)
        for name, value in model.state_dict().items()
        if not name.startswith("tokenizer.")
    }


def _known(part: nn.Module, *classes: type) -> nn.Module:
    if type(part) not in classes:
        names = " or ".join(cls.__name__ for cls in classes)
        raise ValueError(f"the model has a {type(part).__name__}, and only one of {names} can be written")
    return part


def _plain(value: Any) -> Any:
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value
