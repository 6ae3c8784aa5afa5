"""``SeededDataset``: samples whose random transforms are the same in every run and every worker."""

from collections.abc import Mapping
from typing import Any

from torch.utils.data import Dataset

from delvm_mm.datasets.seeded_clips import seeded
from delvm_mm.registry import DATASETS

__all__ = ["SeededDataset"]


@DATASETS.register_module()
class SeededDataset(Dataset):
    """A dataset whose sample ``i`` draws from random numbers seeded by ``seed`` and ``i`` alone.

    For evaluation with random degradations (``AddRain`` on one's own photographs): each run, with any number of
    workers, sees the same rain. Bulk tokenization does so by itself. All else, such as ``metainfo``, ``class_ids`` and
    ``img_paths``, is the dataset's own.

    Args:
        dataset: The dataset, or its config.
        seed: Seed of the samples.

    Example:
        >>> from delvm_mm.datasets import ProceduralScenes
        >>> rainy = ProceduralScenes(task="seg", size=32, length=4, pipeline=[dict(type="AddRain")])
        >>> dataset = SeededDataset(rainy, seed=0)
        >>> bool((dataset[1]["img"] == dataset[1]["img"]).all())
        True
    """

    def __init__(self, dataset: Mapping[str, Any] | Dataset, seed: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
        self.dataset = DATASETS.build(dict(dataset)) if isinstance(dataset, Mapping) else dataset
        self.seed = seed

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample at ``index``; negative ones count from the end."""
        number = index + len(self) if index < 0 else index
        with seeded(self.seed, number):
            return self.dataset[number]

    def __getattr__(self, name: str) -> Any:
        # Only what this class has not; without the guard, unpickling would ask for 'dataset' for ever.
        if name.startswith("__") or name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)
