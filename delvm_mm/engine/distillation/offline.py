"""The offline teacher of distillation: a teacher cache in the place of a teacher."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import Dataset

from delvm_mm.engine.distillation.cache_fits import check_cache_fits
from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.models import CachedTeacherTerm, ExtraLoss, LogitsKLLoss
from delvm_mm.stores import TeacherCache


class CachedTeacher(ExtraLoss):
    """Looks up the teacher's predictions for the sentences of a batch, for a loss term.

    Args:
        path: A finished teacher cache; ``delvm cache-teacher`` makes it.
        loss: Its temperature has to be that of the cache.

    Attributes:
        factor: Multiplies the loss; a schedule changes it.

    Raises:
        FileNotFoundError: The cache, its index or a shard is missing.
        ValueError: The cache is damaged or was made with another temperature, or the loss is of another kind.
    """

    def __init__(self, path: str | Path, loss: LogitsKLLoss) -> None:
        if not isinstance(loss, LogitsKLLoss):
            raise ValueError(
                f"a teacher cache holds probabilities, for a LogitsKLLoss; DistillationHook.loss is a "
                f"{type(loss).__name__}, which needs a teacher online"
            )
        self.cache = TeacherCache(path)
        self.loss = loss
        self.factor = 1.0
        self._terms: list[CachedTeacherTerm] = []
        if loss.temperature != self.cache.temperature:
            raise ValueError(
                f"teacher cache {self.cache.path} was made with temperature {self.cache.temperature}, the loss has "
                f"{loss.temperature}: set DistillationHook.loss.temperature, or make another cache with "
                f"delvm cache-teacher --temperature {loss.temperature}"
            )

    def check(self, runner: Runner) -> None:
        """Refuse, before the first step, to train on sentences or with a student that the cache was not made for.

        Raises:
            ValueError: The cache is unfinished, or does not belong to the data set, the tokenizer or the student.
        """
        self.check_fits(unwrap_model(runner.model), runner.train_dataloader.dataset)

    def check_fits(self, student: nn.Module, dataset: Dataset) -> None:
        """As :meth:`check`, of a student and what it is trained on."""
        tokenizer = getattr(student, "tokenizer", None)
        check_cache_fits(
            self.cache,
            dataset,
            num_embeddings=student.num_embeddings,
            tokenizer_fingerprint=None if tokenizer is None else tokenizer.fingerprint,
        )

    def prepare(self, tokens: Tensor, data_samples: Sequence[BaseDataElement] | None) -> None:
        """Read what the cache has of a batch.

        Args:
            tokens: int64, B x L, what the student reads.
            data_samples: B samples of :class:`VisualSentenceDataset`, with ``sentence``.

        Raises:
            ValueError: The samples do not say which sentences these are, or the tokens are not L of the cache.
        """
        sentences = _sentences_of(data_samples, len(tokens))
        if tokens.shape[1] != self.cache.sentence_length:
            raise ValueError(
                f"a batch has sentences of {tokens.shape[1]} tokens, teacher cache {self.cache.path} is of "
                f"{self.cache.sentence_length}: the tokens must reach the model as the data set gives them"
            )
        codes, log_probs, log_rest = (
            part.flatten(0, 1).to(tokens.device, non_blocking=True) for part in self.cache.read(sentences)
        )
        self._terms = [CachedTeacherTerm(self.loss, codes, log_probs, log_rest, self.factor)]

    def logit_terms(self) -> list[CachedTeacherTerm]:
        """One term, over the B*(L-1) tokens of the batch in order."""
        terms, self._terms = self._terms, []
        return terms

    def close(self) -> None:
        """Do nothing: there is no teacher to release."""


def _sentences_of(data_samples: Any, batch: int) -> list[int]:
    """Numbers of the sentences of a batch, however they were collated."""
    expected = (
        "DistillationHook with a cache needs to know which sentences a batch has: data_samples with 'sentence', as "
        "VisualSentenceDataset gives them and collate_fn=dict(type='default_collate') or 'pseudo_collate' keeps them"
    )
    if isinstance(data_samples, dict):  # plain dicts come out of default_collate as one dict of batches
        sentences = data_samples.get("sentence")
        sentences = sentences.tolist() if isinstance(sentences, Tensor) else sentences
    elif isinstance(data_samples, Sequence) and not isinstance(data_samples, str):
        sentences = [
            sample.get("sentence") if isinstance(sample, dict | BaseDataElement) else None for sample in data_samples
        ]
    else:
        raise ValueError(f"{expected}; got {type(data_samples).__name__}")
    if not isinstance(sentences, Sequence) or len(sentences) != batch or None in sentences:
        raise ValueError(f"{expected}; got {sentences!r} for {batch} sentences")
    return [int(sentence) for sentence in sentences]
