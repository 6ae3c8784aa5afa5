import pickle

import numpy as np
import pytest
from torch.utils.data import Dataset

from delvm_mm.datasets import SeededDataset


class Draws(Dataset):
    class_ids = (3, 4, 5)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if not 0 <= index < 3:
            raise IndexError(index)
        return index, np.random.random()


def test_a_sample_draws_the_same_in_any_order_and_leaves_the_generator_alone():
    dataset = SeededDataset(Draws(), seed=1)
    forward = [dataset[i] for i in range(3)]
    np.random.seed(5)
    assert [dataset[i] for i in (2, 0, 1)] == [forward[i] for i in (2, 0, 1)]
    drawn = np.random.random()
    np.random.seed(5)
    assert drawn == np.random.random()
    assert len({value for _, value in forward}) == 3
    assert dataset[-1] == forward[2]
    assert SeededDataset(Draws(), seed=2)[0] != forward[0]


def test_everything_else_is_the_datasets_own():
    dataset = SeededDataset(Draws())
    assert dataset.class_ids == (3, 4, 5) and len(dataset) == 3
    assert pickle.loads(pickle.dumps(dataset))[1] == dataset[1]
    with pytest.raises(AttributeError, match="object has no attribute 'img_paths'"):
        dataset.img_paths  # noqa: B018
    with pytest.raises(IndexError):
        dataset[3]


@pytest.mark.parametrize("seed", [-1, 1.5, True, 2**32])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(ValueError, match="seed must be an integer"):
        SeededDataset(Draws(), seed)
