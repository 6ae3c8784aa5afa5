"""Whether a teacher cache belongs to what a student is trained on."""

from typing import Any

from torch.utils.data import Dataset

from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.stores import TeacherCache, TokenStore
from delvm_mm.stores.teacher_store import TOOL, store_digest


def check_cache_fits(
    cache: TeacherCache,
    dataset: Dataset,
    num_embeddings: int | None = None,
    tokenizer_fingerprint: str | None = None,
) -> None:
    """Refuse a data set or a student that a teacher cache was not made for.

    Args:
        cache: The cache.
        dataset: What the student is trained on; has to be a :class:`VisualSentenceDataset`, 'fixed'.
        num_embeddings: Vocabulary of the student, where it is known.
        tokenizer_fingerprint: Of the student's tokenizer, where it is known.

    Raises:
        ValueError: The first thing that does not belong together, both sides and what to do.
    """
    if not cache.complete:
        raise ValueError(
            f"teacher cache {cache.path} is unfinished, with {len(cache)} of {cache.index['source_sentences']} "
            f"sentences so far: run {TOOL} again, it continues where it stopped"
        )
    if not isinstance(dataset, VisualSentenceDataset):
        raise ValueError(
            f"teacher cache {cache.path} is for a VisualSentenceDataset, the data set is a "
            f"{type(dataset).__name__}: a wrapper around it may number the sentences in another way"
        )
    if dataset.assembly != "fixed":
        raise ValueError(
            f"the data set's assembly is {dataset.assembly!r}: sentence i is another one in each epoch, and "
            f"teacher cache {cache.path} knows those of epoch 0 only. Set "
            "train_dataloader.dataset.assembly='fixed', or let the teacher run online"
        )
    _check_sentences(cache, dataset)
    made_with = cache.index["tokenizer_fingerprint"]
    for name, given in (("data set", dataset.tokenizer_fingerprint), ("student", tokenizer_fingerprint)):
        if given not in (None, made_with):
            raise ValueError(
                f"teacher cache {cache.path} was made from tokens of tokenizer {made_with!r}, the {name} has "
                f"{given!r}: teacher and student must have the same tokenizer"
            )
    for name, size in (("data set", dataset.num_embeddings), ("student", num_embeddings)):
        if size not in (None, cache.num_embeddings):
            raise ValueError(
                f"teacher cache {cache.path} has a vocabulary of {cache.num_embeddings}, the {name} one of {size}; "
                "distillation compares the same codes"
            )
    if len(dataset) != len(cache):
        raise ValueError(
            f"teacher cache {cache.path} has {len(cache)} sentences, the data set {len(dataset)}: {cache.format.remedy}"
        )


def _check_sentences(cache: TeacherCache, dataset: VisualSentenceDataset) -> None:
    """Whether sentence i of the data set is sentence i of the cache."""
    index = cache.index
    for number, (made, store) in enumerate(zip(index["stores"], dataset.stores, strict=False)):
        _check_store(cache, number, made, store)
    for name, made, given, key in (
        ("number of token stores", len(index["stores"]), len(dataset.stores), "stores"),
        ("context", index["context"], dataset.context, "context"),
        ("sentence length", cache.sentence_length, dataset.sentence_length, "context"),
        ("assembly seed", index["assembly_seed"], dataset.seed, "seed"),
    ):
        if made != given:
            raise ValueError(
                f"teacher cache {cache.path} was made with {name} {made}, the data set has {given}: set "
                f"train_dataloader.dataset.{key} accordingly, or make the cache again with {TOOL}"
            )


def _check_store(cache: TeacherCache, number: int, made: dict[str, Any], store: TokenStore) -> None:
    for key, given, name in (("clips", len(store), "clips"), ("digest", store_digest(store), "shards with digest")):
        if made[key] != given:
            raise ValueError(
                f"teacher cache {cache.path} was made from another token store at position {number}: "
                f"{made['path']} with {name} {made[key]}, the data set has {store.path} with {given}. Give the "
                f"data set the same stores in the same order, or make the cache again with {TOOL}"
            )
