"""Order in which sentences are trained on, as a formula: no state to save, the same on any number of processes."""

import math
from collections.abc import Iterator, Mapping, Sequence, Sized

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from delvm_mm.registry import DATA_SAMPLERS

__all__ = ["SentenceSampler"]

SCHEMES = ("mixture", "resample", "augment")


@DATA_SAMPLERS.register_module()
class SentenceSampler(Sampler[int]):
    """Endless stream of sentence indices, all tasks shuffled together, for ``IterBasedTrainLoop``.

    How rare tasks are balanced (DeLVM, section 3.1) is one argument:

    * 'mixture': the original clips as they are; a task has the share of its data.
    * 'resample': the original clips, those of small tasks again and again, so that every task has the same share, or
      that of ``ratios``. What is repeated is grouped into other sentences each time.
    * 'augment': augmented copies too. A store that was made with ``num_augmented_copies`` holds the copies; a task has
      the share of its clips, originals and copies.

    The stream is made of epochs of N positions, N the sentences of all stores that the scheme uses. Within an epoch, a
    store has the share of positions that the scheme gives it, and its sentences come one after another, from where
    the last epoch stopped, the positions of all stores shuffled by seed and epoch. Rank r of W takes the positions
    r, r + W, r + 2W, ...: W processes with batch B see together, step by step, the batches of one process with batch
    W * B.

    A resumed run continues the stream: MMEngine passes over the steps already trained, either with :meth:`skip` or
    by reading them again. Give ``seed`` in the config for this: without it MMEngine's runner passes its own seed,
    which is drawn anew in each run unless ``randomness=dict(seed=...)`` is set.

    Args:
        dataset: The sentences, a :class:`~delvm_mm.datasets.VisualSentenceDataset`; for a dataset without stores, all
            its indices are one store of originals.
        seed: Seed of the order; None takes one that all processes share.
        shuffle: False gives the sentences in their order, one task after another, in every epoch: training that way
            forgets the earlier tasks.
        start: Position of the whole stream (over all ranks) to begin at, e.g. sentences already trained on.
        scheme: 'mixture', 'resample' or 'augment'.
        ratios: With 'resample', task -> its share, for all tasks; they are scaled to sum to 1. Equal by default.

    Attributes:
        size: Positions in an epoch, N.
        shares: Store -> its positions in an epoch, in the order of the dataset's stores; 0 where it is not used.

    Raises:
        ValueError: An argument is out of range, or a task has no store that the scheme uses.
    """

    def __init__(
        self,
        dataset: Sized,
        seed: int | None = 0,
        shuffle: bool = True,
        start: int = 0,
        scheme: str = "augment",
        ratios: Mapping[str, float] | None = None,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError("SentenceSampler got a dataset without sentences")
        if start < 0:
            raise ValueError(f"start must not be negative, got {start}")
        if scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(map(repr, SCHEMES))}, got {scheme!r}")
        if ratios is not None and scheme != "resample":
            raise ValueError(f"ratios are for scheme 'resample', but scheme is {scheme!r}")
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else int(seed)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to 2**32 - 1, got {self.seed}")
        self.shuffle = shuffle
        self.start = start
        self.scheme = scheme
        self.num_sentences = len(dataset)
        self.tasks: list[str] = list(getattr(dataset, "tasks", [""]))
        self._sizes = np.array(getattr(dataset, "sentences_per_store", [len(dataset)]))
        self._offsets = np.cumsum([0, *self._sizes[:-1]])
        stores = getattr(dataset, "stores", None)
        used = self._sizes.copy()
        if scheme != "augment" and stores is not None:
            used[[store.num_augmented_copies > 0 for store in stores]] = 0
        for task in dict.fromkeys(self.tasks):
            if not sum(size for size, name in zip(used, self.tasks, strict=True) if name == task):
                raise ValueError(
                    f"scheme {scheme!r} uses original clips only, and task {task!r} has only stores of augmented "
                    "copies: add a store made with num_augmented_copies=0, or use scheme 'augment'"
                )
        self.size = int(used.sum())
        self.shares = self._resampled(used, ratios) if scheme == "resample" else used
        self._skipped = 0

    @property
    def task_ratios(self) -> dict[str, float]:
        """Task -> its share of the sentences, summing to 1."""
        return {
            task: float(sum(self.shares[number] for number, name in enumerate(self.tasks) if name == task)) / self.size
            for task in dict.fromkeys(self.tasks)
        }

    def __iter__(self) -> Iterator[int]:
        """Yield indices of this rank without end; each call begins at the start position again."""
        position = self.start + self.rank + self._skipped * self.world_size
        epoch, order = -1, None
        while True:
            if position // self.size != epoch:
                epoch = position // self.size
                order = self._order(epoch)
            yield int(order[position % self.size])
            position += self.world_size

    def __len__(self) -> int:
        """Sentences of one epoch that this rank sees, rounded up; the stream itself has no end."""
        return -(-self.size // self.world_size)

    def skip(self, num_samples: int) -> None:
        """Begin after the first ``num_samples`` indices of this rank: how MMEngine resumes without reading data.

        Args:
            num_samples: Indices this rank has used, counted from ``start``; not added to an earlier skip.

        Raises:
            ValueError: It is negative.
        """
        if num_samples < 0:
            raise ValueError(f"num_samples must not be negative, got {num_samples}")
        self._skipped = int(num_samples)

    def set_epoch(self, epoch: int) -> None:
        """Nothing: the epoch follows from the position."""

    def _order(self, epoch: int) -> np.ndarray:
        """Dataset indices at the positions of an epoch."""
        indices = []
        for size, offset, share in zip(self._sizes, self._offsets, self.shares, strict=True):
            if share:
                # A store that is used more, or less, than once an epoch counts its own epochs.
                store_epoch, sentence = np.divmod(epoch * share + np.arange(share), size)
                indices.append(store_epoch * self.num_sentences + offset + sentence)
        order = np.concatenate(indices)
        if self.shuffle:
            # RandomState, not Generator: numpy promises that its stream never changes between versions.
            order = order[np.random.RandomState([self.seed, epoch]).permutation(self.size)]
        return order

    def _resampled(self, sizes: np.ndarray, ratios: Mapping[str, float] | None) -> np.ndarray:
        """Positions of each store when tasks have equal or given shares; stores of a task share by their size."""
        tasks = list(dict.fromkeys(self.tasks))
        if ratios is None:
            ratios = dict.fromkeys(tasks, 1.0)
        if set(ratios) != set(tasks) or not all(math.isfinite(value) and value > 0 for value in ratios.values()):
            raise ValueError(f"ratios must give each of the tasks {tasks} a number above 0, got {dict(ratios)}")
        of_task = {
            task: sum(size for size, name in zip(sizes, self.tasks, strict=True) if name == task) for task in tasks
        }
        wanted = np.array(
            [
                ratios[task] / sum(ratios.values()) * size / of_task[task]
                for task, size in zip(self.tasks, sizes, strict=True)
            ]
        )
        shares = _apportioned(wanted * sizes.sum(), int(sizes.sum()))
        for task in tasks:
            if not sum(share for share, name in zip(shares, self.tasks, strict=True) if name == task):
                raise ValueError(
                    f"ratios {dict(ratios)} give task {task!r} none of {sizes.sum()} sentences of an epoch: raise it"
                )
        return shares


def _apportioned(wanted: Sequence[float], total: int) -> np.ndarray:
    """Whole numbers near ``wanted`` that sum to ``total``: the largest remainders are rounded up."""
    wanted = np.asarray(wanted, float)
    shares = np.floor(wanted).astype(int)
    shares[np.argsort(shares - wanted, kind="stable")[: total - shares.sum()]] += 1
    return shares
