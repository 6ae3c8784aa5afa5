"""Samples that are expensive to make, made once."""

from collections.abc import Mapping
from typing import Any

from torch.utils.data import Dataset

from delvm_mm.registry import DATASETS

__all__ = ["CachedDataset"]


@DATASETS.register_module()
class CachedDataset(Dataset):
    """Keep every sample of a dataset in memory once it has been asked for.

    For small sets that are rendered or decoded anew each time, such as :class:`ProceduralScenes`. Each worker of a
    loader has a memory of its own; use ``persistent_workers``. Samples are handed out as they are, not copied.

    Args:
        dataset (dict | Dataset): The dataset, or its config.
    """

    def __init__(self, dataset: Mapping[str, Any] | Dataset) -> None:
        self.dataset = DATASETS.build(dict(dataset)) if isinstance(dataset, Mapping) else dataset
        self._samples: dict[int, Any] = {}

    @property
    def metainfo(self) -> dict:
        """That of the dataset."""
        return dict(getattr(self.dataset, "metainfo", {}))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample at ``index``."""
        if index not in self._samples:
            self._samples[index] = self.dataset[index]
        return self._samples[index]
