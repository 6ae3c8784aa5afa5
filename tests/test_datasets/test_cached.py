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
    source = Counting()
    cached = CachedDataset(source)
    assert [cached[index] for index in (2, 0, 2, 2, 0)] == [20, 0, 20, 20, 0]
    assert source.made == [2, 0]
    assert len(cached) == 3
