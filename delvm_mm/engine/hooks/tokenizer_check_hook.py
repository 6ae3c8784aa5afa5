"""Tokens and tokenizer must belong together: checked before the first step."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class TokenizerCheckHook(Hook):
    """Refuse to train on token stores that another tokenizer made, or with sentences beyond the context."""

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Compare the data of training and validation with the model.

        Raises:
            ValueError: If fingerprints, codebook sizes or lengths do not fit.
        """
        model = unwrap_model(runner.model)
        _check(model, runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            _check(model, runner.val_dataloader.dataset)


def _check(model: nn.Module, dataset: Dataset) -> None:
    tokenizer = getattr(model, "tokenizer", None)
    made_with = getattr(dataset, "tokenizer_fingerprint", None)
    if tokenizer is not None and made_with is not None and made_with != tokenizer.fingerprint:
        raise ValueError(
            f"the token stores were made with tokenizer {made_with}, the model has {tokenizer.fingerprint}; "
            "give model.tokenizer the weights that made them, or tokenize again"
        )
    codes = getattr(dataset, "num_embeddings", model.num_embeddings)
    if codes != model.num_embeddings:
        raise ValueError(
            f"the token stores have a codebook of {codes}, the model's is {model.num_embeddings}; "
            "set the codebook size of the model, or tokenize again"
        )
    length = getattr(dataset, "sentence_length", 0)
    if length > model.max_positions:
        raise ValueError(
            f"sentences have {length} tokens and the model's context is {model.max_positions}; set the data set's "
            "context to the model's max_positions"
        )
