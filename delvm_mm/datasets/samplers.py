"""Order in which sentences are trained on, as a formula: no state to save, the same on any number of processes."""

from collections.abc import Iterator, Sized

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from delvm_mm.registry import DATA_SAMPLERS

__all__ = ["SentenceSampler"]


@DATA_SAMPLERS.register_module()
class SentenceSampler(Sampler[int]):
    """Endless stream of sentence indices, all tasks shuffled together, for ``IterBasedTrainLoop``.

    At position p of the stream, with N sentences an epoch, stands index ``e * N + permutation_e[p % N]``, where
    ``e = p // N`` and the permutation follows from the seed and e alone. Rank r of W takes the positions r, r + W,
    r + 2W, ...: W processes with batch B see together, step by step, the batches of one process with batch W * B.

    A resumed run continues the stream: MMEngine passes over the steps already trained, either with :meth:`skip` or
    by reading them again. Give ``seed`` in the config for this: without it MMEngine's runner passes its own seed,
    which is drawn anew in each run unless ``randomness=dict(seed=...)`` is set.

    Args:
        dataset: The sentences; its length is N.
        seed: Seed of the order; None takes one that all processes share.
        shuffle: False gives the sentences in their order, one task after another, in every epoch: training that way
            forgets the earlier tasks.
        start: Position of the whole stream (over all ranks) to begin at, e.g. sentences already trained on.
    """

    def __init__(self, dataset: Sized, seed: int | None = 0, shuffle: bool = True, start: int = 0) -> None:
        if len(dataset) == 0:
            raise ValueError("SentenceSampler got a dataset without sentences")
        if start < 0:
            raise ValueError(f"start must not be negative, got {start}")
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.seed = sync_random_seed() if seed is None else int(seed)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to 2**32 - 1, got {self.seed}")
        self.shuffle = shuffle
        self.start = start
        self._skipped = 0

    def __iter__(self) -> Iterator[int]:
        """Yield indices of this rank without end; each call begins at the start position again."""
        position = self.start + self.rank + self._skipped * self.world_size
        epoch, order = -1, None
        while True:
            if position // self.size != epoch:
                epoch = position // self.size
                order = self._order(epoch)
            yield epoch * self.size + int(order[position % self.size])
            position += self.world_size

    def __len__(self) -> int:
        """Sentences of one epoch that this rank sees, rounded up; the stream itself has no end."""
        return -(-self.size // self.world_size)

    def skip(self, num_samples: int) -> None:
        """Begin after the first ``num_samples`` indices of this rank: how MMEngine resumes without reading data.

        Args:
            num_samples: Indices this rank has used, counted from ``start``; not added to an earlier skip.
        """
        if num_samples < 0:
            raise ValueError(f"num_samples must not be negative, got {num_samples}")
        self._skipped = int(num_samples)

    def set_epoch(self, epoch: int) -> None:
        """Nothing: the epoch follows from the position."""

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.size)
        # RandomState, not Generator: numpy promises that its stream never changes between versions.
        return np.random.RandomState([self.seed, epoch]).permutation(self.size)
