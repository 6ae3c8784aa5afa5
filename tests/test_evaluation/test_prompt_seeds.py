"""Means and spreads over prompts that several seeds choose."""

import pytest

from delvm_mm import datasets  # noqa: F401 - registers them
from delvm_mm.evaluation.prompt_seeds import mean_and_spread, with_prompt_seed


def test_means_and_standard_deviations_are_those_by_hand():
    results = mean_and_spread({3: {"seg/mIoU": 1.0, "prompt": "a"}, 5: {"seg/mIoU": 2.0, "prompt": "b"}})
    assert results["seg/mIoU"] == 1.5 and results["spread"] == {"seg/mIoU": pytest.approx(0.5**0.5)}
    assert results["prompt"] == "a" and results["seeds"][5] == {"seg/mIoU": 2.0, "prompt": "b"}
    assert mean_and_spread({0: {"seg/mIoU": 4.0}})["spread"] == {"seg/mIoU": 0.0}


def test_the_seed_is_that_of_the_prompts_also_within_another_dataset():
    prompts = dict(type="VisionPromptDataset", selection="random", query=dict(seed=7))
    assert with_prompt_seed(prompts, 2, "seg") == prompts | dict(seed=2)
    episodes = dict(type="PascalEpisodes", data_root="data")  # its base class takes the seed
    assert with_prompt_seed(episodes, 2, "seg")["seed"] == 2
    around = dict(type="PromptControlDataset", control="reversed", dataset=prompts)
    assert with_prompt_seed(around, 2, "seg")["dataset"]["seed"] == 2 and "seed" not in prompts


@pytest.mark.parametrize(
    "dataset, cause",
    [
        (dict(type="VisionPromptDataset", selection="nearest"), "selection='nearest' draws nothing"),
        (dict(type="VisionPromptDataset", prompt_indices=[1]), "prompt_indices names the pairs"),
        (dict(type="CachedDataset", datasets=[]), "its CachedDataset takes no seed"),
    ],
)
def test_prompts_that_no_seed_changes_are_refused(dataset, cause):
    with pytest.raises(ValueError, match=f"prompts of task 'seg' are the same with all seeds .{cause}"):
        with_prompt_seed(dataset, 0, "seg")
