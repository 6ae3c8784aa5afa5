"""Datasets of clips laid end to end, and samples that are expensive to make, made once."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import ConcatDataset, Dataset

from delvm_mm.registry import DATASETS

__all__ = ["CachedDataset", "JoinedDataset"]


@DATASETS.register_module()
class JoinedDataset(Dataset):
    """Datasets laid end to end, of any kind: MMEngine's ``ConcatDataset`` wants equal meta information of all.

    Args:
        datasets: The datasets, or their configs.

    Raises:
        ValueError: If there is no dataset, or no sample.
    """

    def __init__(self, datasets: Sequence[Mapping[str, Any] | Dataset]) -> None:
        if not datasets:
            raise ValueError(f"{type(self).__name__}.datasets is empty: expected at least one dataset")
        built = [DATASETS.build(dict(each)) if isinstance(each, Mapping) else each for each in datasets]
        self.dataset = ConcatDataset(built)
        if not len(self.dataset):
            raise ValueError(f"the datasets of {type(self).__name__} have no sample")

    def __len__(self) -> int:
        """Number of samples of all datasets."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample at ``index``."""
        return self.dataset[index]


@DATASETS.register_module()
class CachedDataset(JoinedDataset):
    """Datasets laid end to end, each sample kept in memory once it has been asked for.

    For small sets that are rendered or decoded anew each time, such as :class:`ProceduralScenes`. Each worker of a
    loader has a memory of its own; use ``persistent_workers``. Samples are handed out as they are, not copied.
    Arguments and errors are those of :class:`JoinedDataset`.
    """

    def __init__(self, datasets: Sequence[Mapping[str, Any] | Dataset]) -> None:
        super().__init__(datasets)
        self._samples: dict[int, Any] = {}

    def __getitem__(self, index: int) -> Any:
        """The sample at ``index``."""
        if index not in self._samples:
            self._samples[index] = super().__getitem__(index)
        return self._samples[index]
