import pytest
from torch.utils.data import Dataset

from delvm_mm.datasets import CachedDataset


class Counting(Dataset):
    def __init__(self):
        self.made = []

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.made.append(index)
        return index * 10


def test_each_sample_is_made_once():
    first, second = Counting(), Counting()
    cached = CachedDataset([first, second])
    assert [cached[index] for index in (2, 0, 5, 2, 5, 0)] == [20, 0, 20, 20, 20, 0]
    assert (first.made, second.made) == ([2, 0], [2])
    assert len(cached) == 6


def test_no_dataset_is_refused():
    with pytest.raises(ValueError, match="at least one dataset"):
        CachedDataset([])
