"""``SeededClips``: clips whose random numbers follow from their number, whatever process makes them and when."""

import errno
import random
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["DATA_ERRORS", "SeededClips", "Unreadable", "seeded"]

DATA_ERRORS = (ValueError, OSError)
"""What readers and transforms raise for a sample that is damaged or missing."""

FILE_ERRORS = (None, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Of ``OSError``: what is about one file. A network that is away, or memory that is short, is no fault of the data."""


class Unreadable(NamedTuple):
    """A clip that could not be read: what takes its place in a batch, so that the worker goes on."""

    clip: int
    error: str
    trace: str

    def as_error(self) -> ValueError:
        """The error that a run which stops at damage ends with."""
        error = ValueError(
            f"{self.error}\n(clip {self.clip}; mend or remove it and run again, or leave such clips out with "
            "--on-error skip)"
        )
        error.__cause__ = RuntimeError(self.trace)
        return error


class SeededClips(Dataset):
    """Clips of a dataset, with Python's, numpy's and torch's random numbers seeded by the number of the clip.

    So a clip is the same in whichever process and after however many others it is made. A clip that cannot be read
    comes as :class:`Unreadable`; one that is not like the first is an error. With ``task``, all are of that task.
    """

    def __init__(self, dataset: Dataset, seed: int, copies: int, task: str | None = None) -> None:
        if task is not None and (not isinstance(task, str) or not task):
            raise ValueError(f"task is {task!r}, expected a name, such as 'seg'")
        self.dataset = dataset
        self.seed = seed
        self.copies = copies
        self.given_task = task
        self.shape: tuple[int, ...] | None = None
        self.task: str | None = task

    def __len__(self) -> int:
        return len(self.dataset) * self.copies

    def expect_like(self, sample: dict) -> None:
        """From now on, clips have to have the shape and the task of this one."""
        self.shape, self.task = tuple(sample["inputs"].shape), self._task_of(sample)

    def __getitem__(self, clip: int) -> "dict | Unreadable":
        try:
            with seeded(self.seed, clip):
                sample = self.dataset[clip % len(self.dataset)]
        except DATA_ERRORS as error:
            if isinstance(error, OSError) and error.errno not in FILE_ERRORS:
                raise
            return Unreadable(clip, str(error), traceback.format_exc())
        self.check(sample, clip)
        return sample

    def _task_of(self, sample: dict) -> Any:
        return self.given_task or getattr(sample.get("data_samples"), "task", None)

    def check(self, sample: Any, clip: int) -> None:
        """Refuse what is no clip, or none like the first (``expect_like``)."""
        inputs = sample.get("inputs") if isinstance(sample, dict) else None
        if not isinstance(inputs, Tensor) or inputs.dtype != torch.uint8 or inputs.ndim != 4 or inputs.shape[1] != 3:
            raise ValueError(
                f"clip {clip} has no uint8 'inputs' of k x 3 x H x W: the dataset's pipeline must end with PackClip"
            )
        task = self._task_of(sample)
        if not isinstance(task, str):
            raise ValueError(
                f"clip {clip} has no 'task' in its data sample: say task='seg' (or another name) beside the store's "
                "'out', or put dict(type='SetTask', task='seg') into the data set's pipeline"
            )
        if self.shape not in (None, tuple(inputs.shape)):
            name = sample["data_samples"].get("img_path", None) or f"clip {clip}"
            raise ValueError(
                f"{name} has images of shape {tuple(inputs.shape)} (k x 3 x H x W), the first clip {self.shape}: "
                "all clips of a store must agree; resize and crop in the dataset's pipeline"
            )
        if self.task not in (None, task):
            raise ValueError(f"clip {clip} is of task {task!r}, the first of {self.task!r}: one store, one task")


@contextmanager
def seeded(seed: int, clip: int) -> Iterator[None]:
    """Seed the global random numbers, and give them back as they were."""
    numbers = np.random.SeedSequence([seed, clip]).generate_state(3)
    with unchanged_random_states(devices=()):
        random.seed(int(numbers[0]))
        np.random.seed(numbers[1])
        torch.default_generator.manual_seed(int(numbers[2]))
        yield


@contextmanager
def unchanged_random_states(devices: Iterable[int] | None = None) -> Iterator[None]:
    """Give the generators of PyTorch, NumPy and Python back their states afterwards.

    Args:
        devices: GPUs whose generators are meant, too; None for all.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
