"""Each protocol, run by its command with the shipped model on small copies of its data."""

import itertools
import json
import shutil
import sys
from pathlib import Path

import pytest

from delvm_mm.commands import test as test_tool
from helpers import ROOT
from helpers.layouts_protocols import (
    write_coco_instances,
    write_fss,
    write_imagenet_val,
    write_voc_boxes,
    write_voc_with_lists,
)

NUMBERS = itertools.count()
PROTOCOLS = ROOT / "configs" / "protocols"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with ``data``, laid out as the configs name it."""
    work = tmp_path_factory.mktemp("protocols")
    folder = work / "data"
    folder.mkdir()
    _, lists = write_voc_with_lists(folder)
    write_voc_boxes(folder)
    write_coco_instances(folder, images_of_class=2)
    _, classes = write_fss(folder)
    (folder / "imagenet").mkdir()
    write_imagenet_val(folder / "imagenet")
    for source, place in ((lists, "protocols/pascal/val"), (classes, "protocols/fss/test.txt")):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, folder / place)
    return work


def run(monkeypatch, config, *options, checkpoint="delvm_mm://mini"):
    options = [*options, f"experiment_name=protocol_{next(NUMBERS)}"]
    arguments = ["test.py", str(config), checkpoint, "--out", "out.json", "--cfg-options", *options]
    monkeypatch.setattr(sys, "argv", arguments)
    test_tool.main()
    return json.loads(Path("out.json").read_text())


# Images of 32 px have 16 tokens: small, but all that happens at 96 px happens.
@pytest.mark.parametrize(
    ("name", "task", "results", "options"),
    [
        ("bar_segmentation", None, ["IoU", *(f"IoU_fold{fold}" for fold in range(4))], []),
        ("bar_segmentation_nearest", None, ["IoU", "IoU_fold2"], ["support_lists=data/protocols/pascal/val"]),
        ("bar_detection", None, ["IoU"], []),
        ("bar_colorization", None, ["MSE"], ["num_drawn=12"]),
        ("few_shot_pascal", None, ["mIoU", "FB-IoU", "mIoU_fold3", "FB-IoU_fold0"], []),
        ("few_shot_fss_5shot", "few_shot_fss", ["mIoU", "FB-IoU"], []),
        ("few_shot_coco", None, ["mIoU", "FB-IoU", "mIoU_fold2"], []),
        ("lvm_perplexity", None, ["perplexity", "loss", "unigram_perplexity"], ["num_pairs=2"]),
    ],
)
def test_a_protocol_runs_by_its_command(data, monkeypatch, capsys, name, task, results, options):
    task = task or name
    monkeypatch.chdir(data)
    given = [f"{task}_task.dataloader.{option}" for option in ("num_workers=0", "batch_size=8")]
    given += [f"{task}_task.dataloader.dataset.{option}" for option in ("size=32", "num_queries=2", *options)]
    scores = run(monkeypatch, PROTOCOLS / f"{name}.py", *given)[task]
    table = capsys.readouterr().out
    for result in results:
        assert f"{task}/{result}" in scores and result in table
        if name != "lvm_perplexity":
            assert f"{task}/ceiling/{result}" in scores and f"{task}/trivial/last_label/{result}" in scores
    assert ("MAE-VQGAN" in table and "this model" in table) == name.startswith("bar_"), "published rows stand beside"
    assert scores["prompt"]["seed"] == (5 if name == "bar_colorization" else 0) and scores["prompt"]["size"] == 32


def test_the_size_is_that_of_the_model_folder_unless_it_is_given(data, monkeypatch):
    monkeypatch.chdir(data)
    task = "bar_segmentation_task.dataloader"
    options = [f"{task}.num_workers=0", f"{task}.dataset.num_queries=1", f"{task}.dataset.folds=[1]"]
    assert run(monkeypatch, PROTOCOLS / "bar_segmentation.py", *options)["bar_segmentation"]["prompt"]["size"] == 96


def test_a_protocol_is_a_base_of_a_config_with_a_model(data, monkeypatch, tiny_model):
    monkeypatch.chdir(data)
    Path("own.py").write_text(
        f"_base_ = [{tiny_model.config!r}, {str(PROTOCOLS / 'few_shot_pascal.py')!r}]\n"
        "tasks = dict(_delete_=True, few_shot_pascal=_base_.few_shot_pascal_task)\n"
        "tasks['few_shot_pascal']['dataloader']['num_workers'] = 0\n"
        "tasks['few_shot_pascal']['dataloader']['dataset'].update(size=32, num_queries=1, num_pairs=2)\n"
    )
    scores = run(monkeypatch, "own.py", checkpoint=tiny_model.weights)
    assert scores["few_shot_pascal"]["prompt"]["num_pairs"] == 2 and "few_shot_pascal/mIoU" in scores["few_shot_pascal"]


def test_a_config_without_model_wants_weights_that_say_which(data, monkeypatch, capsys, tiny_model):
    monkeypatch.chdir(data)
    for checkpoint, message in (("none", "not 'none'"), (tiny_model.weights, "holds no config with one")):
        with pytest.raises(SystemExit):
            run(monkeypatch, PROTOCOLS / "bar_segmentation.py", checkpoint=checkpoint)
        assert message in capsys.readouterr().err


def test_five_pairs_do_not_fit_the_shipped_model(data, monkeypatch, capsys):
    monkeypatch.chdir(data)
    with pytest.raises(SystemExit):
        run(monkeypatch, PROTOCOLS / "few_shot_fss_5shot.py", "few_shot_fss_task.dataloader.num_workers=0")
    assert "do not fit the context of 1152; use fewer prompt pairs" in capsys.readouterr().err


def test_an_ensemble_shows_the_shipped_model_five_pairs(data, monkeypatch):
    monkeypatch.chdir(data)
    options = ["model.ensemble.size=5", "few_shot_fss_task.dataloader.num_workers=0"]
    options += [f"few_shot_fss_task.dataloader.dataset.{option}" for option in ("num_queries=1", "size=32")]
    scores = run(monkeypatch, PROTOCOLS / "few_shot_fss_5shot.py", *options)["few_shot_fss"]
    assert scores["prompt"]["num_pairs"] == 5 and "few_shot_fss/mIoU" in scores
