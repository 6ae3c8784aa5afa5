"""The model that the package carries: small, whole, and better at masks than an answer without a model."""

import numpy as np
import pytest

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.datasets import ProceduralScenes
from delvm_mm.models import VQGAN
from delvm_mm.pretrained import resolve_shipped

TASKS = ("seg", "pose", "derain", "colorization", "inpainting", "denoising", "deblurring", "edges")


@pytest.fixture(scope="module")
def mini():
    return DeLVMInferencer("mini", device="cpu", show_progress=False)


def foreground_iou(masks, truths):
    """Of all images together."""
    masks, truths = np.stack(masks) > 0, np.stack(truths) > 0
    return (masks & truths).sum() / (masks | truths).sum()


def test_it_is_at_most_30_mb_with_its_tokenizer():
    folder = resolve_shipped("delvm_mm://mini")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 30e6
    assert VQGAN.from_pretrained(folder / "tokenizer").fingerprint == (
        VQGAN.from_pretrained("delvm_mm://zoo_tokenizer").fingerprint
    )


def test_masks_of_unseen_scenes_are_nearer_than_the_mean_of_the_labels_shown(mini):
    seen = ProceduralScenes(task="seg", size=96, start=2_000_000, length=3)
    prompt = [(scene["img"], 255 * np.repeat(scene["gt_seg_map"][..., None], 3, 2)) for scene in seen]
    queries = [*ProceduralScenes(task="seg", size=96, start=3_000_000, length=8)]
    answers = mini([scene["img"] for scene in queries], prompt, task="seg")["predictions"]
    truths = [scene["gt_seg_map"] for scene in queries]
    iou = foreground_iou([answer["mask"] for answer in answers], truths)
    mean = np.mean([scene["gt_seg_map"] for scene in seen], 0) >= 0.5
    assert iou > foreground_iou([mean] * len(queries), truths) + 0.15
    assert iou > 0.25


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_prompt_and_queries_of_its_own(task):
    folder = resolve_shipped("delvm_mm://mini") / "prompts" / task
    assert len([*folder.glob("*_img.png")]) == len([*folder.glob("*_label.png")]) == 3
    assert [*(folder / "queries").glob("*.png")]


def test_a_photograph_is_answered_by_the_prompt_that_came_with_it(mini):
    folder = resolve_shipped("delvm_mm://mini") / "prompts" / "denoising"
    answers = mini(folder / "queries", folder, task="denoising")["predictions"]
    assert len(answers) == 3
    assert all(answer["image"].shape == (96, 96, 3) and answer["image"].std() > 10 for answer in answers)
