"""Visual sentences: clips of one task from token stores, laid end to end to fill the context of the model."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from delvm_mm.registry import DATASETS
from delvm_mm.stores.token_store import TokenStore
from delvm_mm.structures import DataSample

__all__ = ["VisualSentenceDataset"]

MAX_GROUPING_BYTES = 2**26  # of the orders of clips that a process keeps, four bytes a clip


@DATASETS.register_module()
class VisualSentenceDataset(Dataset):
    """Sentences of ``floor(context / (k * tokens))`` clips each, put together when they are read.

    With N sentences in all stores, index ``e * N + i`` is sentence i of epoch e, so that a sampler without state
    (:class:`~delvm_mm.datasets.SentenceSampler`) reaches every epoch from any worker. Sentences are ordered by store.
    A store's clips that do not fill a last sentence are left out of that epoch.

    Args:
        stores: Token stores: folders, or dicts with ``path``. A store that is listed twice counts twice.
        context: Context length of the model in tokens; sentences are at most this long.
        assembly: 'random' groups the clips of a store anew in each epoch. 'fixed' gives sentence i the same tokens in
            every epoch, which a cached teacher needs: those of epoch 0 of 'random'.
        seed: Seed of the grouping. Grouping depends on it, the position of the store in the list, and the epoch.
        tokenizer_fingerprint: If given, stores made with another tokenizer are refused.

    Attributes:
        sentence_length: Tokens in a sentence.
        num_embeddings, grid, tokenizer_fingerprint: What all stores agree on.
        tasks: The task of each store.
        sentences_per_store: Sentences of each store in one epoch.

    Raises:
        FileNotFoundError: A store, its index or a shard is missing.
        ValueError: A store is unfinished or too small, a clip does not fit the context, or the stores disagree.

    Example:
        >>> dataset = VisualSentenceDataset(["data/tokens/seg", "data/tokens/pose"], context=2048)  # doctest: +SKIP
        >>> dataset[0]["inputs"].shape  # doctest: +SKIP
        torch.Size([2048])
    """

    def __init__(
        self,
        stores: Sequence[str | Path | dict],
        context: int = 2048,
        assembly: str = "random",
        seed: int = 0,
        tokenizer_fingerprint: str | None = None,
    ) -> None:
        if assembly not in ("random", "fixed"):
            raise ValueError(f"assembly must be 'random' or 'fixed', got {assembly!r}")
        if isinstance(stores, (str, Path, dict)):
            stores = [stores]
        if not stores:
            raise ValueError("stores is empty: expected at least one token store folder")
        opened = [TokenStore(_path_of(store), tokenizer_fingerprint) for store in stores]
        self._lay_end_to_end(opened, context, assembly, seed)

    def _lay_end_to_end(self, stores: Sequence[Any], context: int, assembly: str, seed: int) -> None:
        """Count the sentences of stores, or of what has their attributes."""
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
        self.context = context
        self.assembly = assembly
        self.seed = seed
        self.stores = list(stores)
        _check_agreement(self.stores)
        first = self.stores[0]
        self.num_embeddings = first.num_embeddings
        self.grid = first.grid
        self.tokenizer_fingerprint = first.tokenizer_fingerprint
        self.tasks = [store.task for store in self.stores]
        self._clips_per_sentence = [_clips_per_sentence(store, context) for store in self.stores]
        self.sentence_length = self._common_length()
        self.sentences_per_store = [
            len(store) // clips for store, clips in zip(self.stores, self._clips_per_sentence, strict=True)
        ]
        # Store s has the sentences from bounds[s] up to, not including, bounds[s + 1].
        self._bounds = [0, *accumulate(self.sentences_per_store)]
        self._groupings: dict[tuple[int, int], np.ndarray] = {}

    @property
    def metainfo(self) -> dict:
        """What MMEngine's loops and hooks read about a dataset."""
        return {
            "tasks": tuple(dict.fromkeys(self.tasks)),
            "num_embeddings": self.num_embeddings,
            "grid": self.grid,
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
        }

    def __len__(self) -> int:
        """Number of sentences in one epoch."""
        return self._bounds[-1]

    def __iter__(self) -> Iterator[dict]:
        """The sentences of epoch 0; indexing alone would never end, as it goes on to later epochs."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict:
        """One sentence.

        Args:
            index: ``epoch * len(self) + sentence``.

        Returns:
            ``inputs``: LongTensor L. ``data_samples``: DataSample with metainfo ``task``, ``sentence``,
            ``epoch`` and ``clip_shape`` (images in a clip, tokens of an image).
        """
        number, sentence, epoch, clips = self._place(index)
        store = self.stores[number]
        inputs = self._inputs(store, clips, epoch)
        return {"inputs": inputs, "data_samples": data_sample(store.task, sentence, epoch, store.clip_shape)}

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """The sentences of a batch, as PyTorch's ``DataLoader`` asks for them: the same as one by one, and faster."""
        places = [self._place(index) for index in indices]
        samples: list[dict] = [{}] * len(places)
        for number in {place[0] for place in places}:
            store = self.stores[number]
            rows = [row for row, place in enumerate(places) if place[0] == number]
            tokens = self._read(store, [clip for row in rows for clip in places[row][3]])
            sentences = torch.from_numpy(tokens.reshape(len(rows), -1)).unbind()
            for row, inputs in zip(rows, sentences, strict=True):
                _, sentence, epoch, _ = places[row]
                info = data_sample(store.task, sentence, epoch, store.clip_shape)
                samples[row] = {"inputs": inputs, "data_samples": info}
        return samples

    def _place(self, index: int) -> tuple[int, int, int, list[int]]:
        """Number of the store, sentence, epoch, and the clips of the sentence in that store."""
        if index < 0:
            raise IndexError(f"sentence index must not be negative, got {index}")
        epoch, sentence = divmod(int(index), self._bounds[-1])
        number = bisect_right(self._bounds, sentence) - 1
        count = self._clips_per_sentence[number]
        start = (sentence - self._bounds[number]) * count
        return number, sentence, epoch, self._grouping(number, epoch)[start : start + count].tolist()

    def _inputs(self, store: TokenStore, clips: Sequence[int], epoch: int) -> torch.Tensor:
        """Tokens of a sentence's clips; those of a token store are the same in every epoch."""
        return torch.from_numpy(self._read(store, clips))

    def _read(self, store: TokenStore, clips: Sequence[int]) -> np.ndarray:
        """Tokens of clips, int64, one after another."""
        tokens = store.read(clips)
        # On an accelerator such a token would end the run in the look-up, without a name. argmax is faster than max.
        if (largest := tokens[tokens.argmax()]) >= self.num_embeddings:
            raise ValueError(
                f"{store.path} holds token {largest}, its codebook has {self.num_embeddings}: the store is "
                "damaged, or was not made by this package; tokenize again"
            )
        return tokens.astype(np.int64)

    def _grouping(self, number: int, epoch: int) -> np.ndarray:
        """Order in which the clips of a store are laid end to end in an epoch.

        The last ones asked for are kept: a shuffled stream moves back and forth between epochs, and where a small
        store is repeated, between many.

        Returns:
            int64, one number a clip.
        """
        if self.assembly == "fixed":
            epoch = 0
        order = self._groupings.get((number, epoch))
        if order is None:
            # RandomState, not Generator: numpy promises that its stream never changes between versions, so that
            # sentence i of a cached teacher stays what it was.
            random = np.random.RandomState([self.seed, number, epoch])
            order = random.permutation(len(self.stores[number])).astype(np.uint32)
            self._groupings[number, epoch] = order
            self._forget_groupings()
        return order

    def _forget_groupings(self) -> None:
        """Keep the youngest orders, two at least."""
        size = sum(order.nbytes for order in self._groupings.values())
        while size > MAX_GROUPING_BYTES and len(self._groupings) > 2:
            size -= self._groupings.pop(next(iter(self._groupings))).nbytes

    def _common_length(self) -> int:
        lengths = [
            clips * store.clip_shape[0] * store.clip_shape[1]
            for store, clips in zip(self.stores, self._clips_per_sentence, strict=True)
        ]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"with context {self.context}, sentences of the stores differ in length: "
                + "; ".join(
                    f"{store.path} has clips of {store.clip_shape[0]} x {store.clip_shape[1]} tokens "
                    f"and sentences of {length}"
                    for store, length in zip(self.stores, lengths, strict=True)
                )
                + ". Choose a context that gives the same length, or train on these stores apart"
            )
        return lengths[0]


def data_sample(task: str, sentence: int, epoch: int, clip_shape: tuple[int, int]) -> DataSample:
    """What is known of a sentence beside its tokens."""
    return DataSample(metainfo=dict(task=task, sentence=sentence, epoch=epoch, clip_shape=clip_shape))


def _path_of(store: str | Path | dict) -> str | Path:
    if isinstance(store, (str, Path)):
        return store
    if not isinstance(store, dict) or set(store) != {"path"}:
        raise ValueError(f"a store must be a folder or dict(path=folder), got {store!r}")
    return store["path"]


def _clips_per_sentence(store: TokenStore, context: int) -> int:
    """How many clips of a store fit the context, checked against how many it has."""
    k, tokens = store.clip_shape
    clips = context // (k * tokens)
    if clips < 1:
        raise ValueError(
            f"context {context} is shorter than one clip of {store.path}: {k} images x {tokens} tokens = "
            f"{k * tokens}. Use a context of at least {k * tokens}, or clips of fewer images"
        )
    if not store.complete:
        raise ValueError(
            f"token store {store.path} is unfinished, with {len(store)} clips so far: "
            "run delvm tokenize again, it continues where it stopped"
        )
    if len(store) < clips:
        raise ValueError(
            f"token store {store.path} has {len(store)} clips, one sentence of context {context} needs {clips}: "
            "add data, or use a shorter context"
        )
    return clips


def _check_agreement(stores: Sequence[TokenStore]) -> None:
    """Tokens of all stores must mean the same images: same tokenizer, codebook and grid."""
    first = stores[0]
    for store in stores[1:]:
        for key in ("tokenizer_fingerprint", "num_embeddings", "grid"):
            if getattr(store, key) != getattr(first, key):
                raise ValueError(
                    f"token stores disagree in {key}: {first.path} has {getattr(first, key)!r}, "
                    f"{store.path} has {getattr(store, key)!r}; tokenize them with the same tokenizer and image size"
                )
