"""Tasks on built-in scenes: what is drawn gets the best score, and the last pair's label does not."""

import numpy as np
import pytest
from mmengine.config import Config

from delvm_mm.registry import DATASETS, EVALUATOR
from helpers import ROOT

BEST = dict(
    boxes=("IoU", 100),
    depth=("abs_rel", 0),
    edges=("edges/Fscore", 100),
    denoising=("restoration/PSNR", np.inf),
    deblurring=("restoration/PSNR", np.inf),
    low_light=("restoration/PSNR", np.inf),
    inpainting=("restoration/PSNR", np.inf),
    colorization=("MSE", 0),
)


def shrunk(dataset):
    """The same data set with images of 48 px."""
    inner = dataset.get("dataset", dataset)
    inner["size"] = 48
    return dataset


@pytest.mark.parametrize("task", BEST)
def test_the_label_itself_has_the_best_score(task):
    settings = Config.fromfile(ROOT / "configs/_base_/tasks" / f"{task}.py")[f"{task}_task"]
    dataset = settings.dataloader.dataset
    for role in ("support", "query"):
        dataset[role] = shrunk(dataset[role])
    prompts = DATASETS.build(dataset)
    assert len(prompts) == 100 and len(prompts.support) == 64
    evaluator = EVALUATOR.build(dict(settings.evaluator, ceiling=False))
    evaluator.dataset_meta = prompts.metainfo
    for index in (0, 57):
        sample = prompts[index]["data_samples"]
        assert sample.task == task
        np.testing.assert_array_equal(prompts[index]["inputs"], prompts[index]["inputs"])  # seeded by the index
        sample.pred_image = sample.label_image
        evaluator.process([sample])
    scores = evaluator.evaluate(2)
    name, best = BEST[task]
    assert scores[f"{task}/{name}"] == pytest.approx(best, abs=0.01)
    assert abs(scores[f"{task}/trivial/last_label/{name}"] - best) > 0.05
