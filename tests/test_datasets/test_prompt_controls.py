"""Prompts as they should not be."""

import numpy as np
import pytest
from torch.utils.data import Dataset

from delvm_mm.datasets import PromptControlDataset, VisionPromptDataset


class Grays(Dataset):
    """Sample i: an image of gray level offset + i, its label of gray level 255 - i."""

    def __init__(self, count=6, offset=0, size=4, task="seg"):
        self.count, self.offset, self.size, self.task = count, offset, size, task

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        img, label = (np.full((self.size, self.size, 3), gray, np.uint8) for gray in (self.offset + index, 255 - index))
        return dict(img=img, label=label, annotation=index, task=self.task)


def prompts(pairs=(3, 1, 4), queries=5, offset=100, **options):
    return VisionPromptDataset(
        Grays(**options), Grays(queries, offset, **options), num_pairs=len(pairs), prompt_indices=pairs
    )


def levels(sample):
    return sample["inputs"][:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    "control, shown",
    [
        ("no_prompt", []),
        ("shuffled_labels", [3, 251, 1, 252, 4, 254]),
        ("reversed", [4, 251, 1, 254, 3, 252]),
    ],
)
def test_the_query_stands_behind_another_prompt(control, shown):
    dataset = PromptControlDataset(prompts(), control)
    sample = dataset[2]
    assert levels(sample) == [*shown, 102] and len(dataset) == 5
    element = sample["data_samples"]
    assert element.annotation == 2 and element.query_image[0, 0, 0] == 102
    assert element.prompt_images[:, 0, 0, 0].tolist() == shown and element.prompt_images.shape[1:] == (4, 4, 3)
    assert dataset.choice["control"] == control and dataset.choice["num_pairs"] == 3


def test_prompts_of_another_task_come_round():
    other = VisionPromptDataset(Grays(task="pose"), Grays(2, 50, task="pose"), num_pairs=2, selection="random")
    dataset = PromptControlDataset(prompts(), "other_task", other)
    assert [levels(dataset[index]) for index in (0, 3)] == [
        [*levels(other[0])[:-1], 100],
        [*levels(other[1])[:-1], 103],
    ]
    with pytest.raises(ValueError, match=r"prompts of another task are \(3, 8, 8\) images, the query is \(3, 4, 4\)"):
        PromptControlDataset(prompts(), "other_task", prompts(size=8))[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(control="wrong"), "control is 'wrong', expected 'no_prompt'"),
        (dict(control="other_task"), "other is for control='other_task' and needed there"),
        (dict(control="reversed", other=prompts()), "other is for control='other_task'"),
    ],
)
def test_what_is_no_control_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PromptControlDataset(prompts(), **arguments)


def test_one_label_cannot_be_shuffled():
    with pytest.raises(ValueError, match="needs two pairs or more"):
        PromptControlDataset(prompts(pairs=(1,)), "shuffled_labels")[0]
