import pytest
from torch.utils.data import Dataset

from delvm_mm.datasets import CachedDataset, JoinedDataset


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


def test_joined_datasets_are_asked_every_time():
    first, second = Counting(), Counting()
    joined = JoinedDataset([first, second])
    assert [joined[index] for index in (5, 0, 5)] == [20, 0, 20]
    assert (first.made, second.made) == ([0], [2, 2])


@pytest.mark.parametrize("kind", [CachedDataset, JoinedDataset])
def test_no_dataset_is_refused(kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.datasets is empty: expected at least one dataset"):
        kind([])
