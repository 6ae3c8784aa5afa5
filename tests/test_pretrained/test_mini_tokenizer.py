"""The tokenizer that the package carries keeps the promises of its README."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from delvm_mm.models import VQGAN, load_tokenizer
from delvm_mm.pretrained import resolve_shipped, shipped_names
from delvm_mm.registry import DATASETS, EVALUATOR
from helpers import ROOT

NAME = "delvm_mm://mini_tokenizer"
CONFIGS = ROOT / "configs" / "mini"
# Joints that are not found count as wrong: clean drawings of 40 pixels are read back to 0.79, guessed places gave 0.92.
LEAST = {"seg": ("mIoU", 90.0), "pose": ("PCK", 0.75), "derain": ("PSNR", 24.0)}


@pytest.fixture(scope="module")
def tokenizer() -> VQGAN:
    return load_tokenizer(NAME)


@pytest.fixture(scope="module")
def scored(tokenizer) -> tuple[dict[str, float], torch.Tensor]:
    """Ceilings on scenes that no training has seen, and how often each code was written."""
    config = Config.fromfile(CONFIGS / "_base_scenes.py")
    scores, counts = {}, torch.zeros(tokenizer.num_embeddings)
    for task in LEAST:
        scenes = DATASETS.build(dict(config.scenes[task], start=4_000_000, length=40))
        evaluator = EVALUATOR.build({**config.tasks[task].evaluator, "ceiling": False, "prefix": None})
        evaluator.dataset_meta = scenes.metainfo
        samples = [scenes[i] for i in range(len(scenes))]
        for key in ("img", "label"):
            images = torch.from_numpy(np.stack([sample[key] for sample in samples])).permute(0, 3, 1, 2) / 255
            tokens = tokenizer.encode(images)
            counts += torch.bincount(tokens.flatten(), minlength=tokenizer.num_embeddings)
        drawn = (tokenizer.decode(tokens) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        evaluator.process(
            [
                dict(annotation=evaluator.codec.annotation_of(sample), pred_image=image)
                for sample, image in zip(samples, drawn, strict=True)
            ]
        )
        results = {name.rpartition("/")[2]: value for name, value in evaluator.evaluate(len(samples)).items()}
        scores[task] = results[LEAST[task][0]]
    return scores, counts


@pytest.mark.parametrize("task", LEAST)
def test_labels_of_unseen_scenes_survive_the_tokens(scored, task):
    name, least = LEAST[task]
    assert scored[0][task] >= least, f"{task}/{name}"


def test_nearly_all_codes_are_used(scored):
    assert (scored[1] > 0).float().mean() >= 0.8


def test_the_folder_is_small_and_complete():
    folder = resolve_shipped(NAME)
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "README.md", "training_log.csv", "curves.png"} <= set(files)
    assert sum(files.values()) <= 8_000_000


def test_the_readme_names_these_weights(tokenizer):
    readme = (resolve_shipped(NAME) / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"fingerprint `(\w+)`", readme) == [tokenizer.fingerprint]


def test_the_mini_configs_use_it(tokenizer):
    config = Config.fromfile(CONFIGS / "teacher.py")
    assert config.model.tokenizer.pretrained == NAME
    grid = tokenizer.grid_of(config.size, config.size)
    assert config.model.backbone.max_positions == config.train_dataloader.dataset.context == 8 * grid[0] * grid[1]
    trained = Config.fromfile(CONFIGS / "tokenizer.py").model.vqgan
    assert VQGAN(**trained).config == tokenizer.config


def test_a_name_that_is_not_carried_is_refused_with_those_that_are():
    assert NAME in shipped_names()
    with pytest.raises(FileNotFoundError, match=r"no 'delvm_mm://maxi'; it has .*delvm_mm://mini_tokenizer"):
        VQGAN.from_pretrained("delvm_mm://maxi")
    with pytest.raises(FileNotFoundError, match="carries no"):
        resolve_shipped("delvm_mm://../models")
    assert resolve_shipped(Path(NAME)) == resolve_shipped(NAME)
    assert resolve_shipped("weights/mine") == Path("weights/mine")
