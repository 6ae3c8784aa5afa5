"""``delvm test``: three tasks scored by the toolboxes' metrics, panels, and errors a user can read."""

import itertools
import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from delvm_mm.commands import test as test_tool
from delvm_mm.registry import MODELS
from helpers.small_vqgan import write_small_vqgan

NUMBERS = itertools.count()
CODECS = dict(
    seg=dict(type="ForegroundMaskCodec"),
    pose=dict(type="SkeletonCodec", radius=2, thickness=1),
    derain=dict(type="RestorationCodec"),
)
METRICS = dict(
    seg=dict(type="mmseg.IoUMetric", iou_metrics=["mIoU"]),
    pose=dict(type="mmpose.PCKAccuracy", thr=0.2, norm_item="bbox"),
    derain=dict(type="RestorationMetric"),
)


def task_config(task):
    scenes = dict(type="ProceduralScenes", task=task, size=32, pipeline=[dict(type="DrawLabel", codec=CODECS[task])])
    dataset = dict(
        type="VisionPromptDataset",
        support=dict(**scenes, start=100, length=4),
        query=dict(**scenes, length=5),
        num_pairs=2,
        selection="random",
    )
    return dict(
        dataloader=dict(
            batch_size=3,
            num_workers=0,
            dataset=dataset,
            collate_fn=dict(type="pseudo_collate"),
            sampler=dict(type="DefaultSampler", shuffle=False),
        ),
        evaluator=dict(type="VisionPromptEvaluator", prefix=task, codec=CODECS[task], metrics=[METRICS[task]]),
    )


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with ``config.py``, a random tokenizer, and ``model.pth``; the working directory."""
    monkeypatch.chdir(tmp_path)
    write_small_vqgan()
    model = dict(
        type="DeLVM",
        tokenizer=dict(type="VQGAN", pretrained="tokenizer"),
        backbone=dict(type="LLaMA", arch=dict(embed_dims=32, num_layers=2, num_heads=4), max_positions=384),
        embedding=dict(type="CodebookEmbedding"),
        head=dict(type="NextTokenHead"),
    )
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), "model.pth")
    tasks = {task: task_config(task) for task in CODECS}
    Config(dict(default_scope="delvm_mm", model=model, tasks=tasks)).dump("config.py")
    return tmp_path


def test(monkeypatch, *arguments):
    options = [*arguments]
    if "--cfg-options" not in options:
        options.append("--cfg-options")
    options.append(f"experiment_name=test_tool_{next(NUMBERS)}")
    monkeypatch.setattr(sys, "argv", ["test.py", *options])
    test_tool.main()


test.__test__ = False


def test_all_tasks_are_scored_with_their_ceilings_and_panels_are_written(work, monkeypatch, capsys):
    files = ("--show-dir", "panels", "--out", "results.json", "--html", "shown/report.html")
    test(monkeypatch, "config.py", "model.pth", "--max-panels", "2", *files)
    results = json.loads(Path("results.json").read_text())
    assert set(results) == {"seg", "pose", "derain"}
    for task, metric in (("seg", "mIoU"), ("pose", "PCK"), ("derain", "restoration/PSNR")):
        assert {f"{task}/{metric}", f"{task}/ceiling/{metric}", f"{task}/images_per_s"} <= set(results[task])
        prompt = results[task]["prompt"]
        assert prompt["selection"] in ("fixed", "random") and prompt["num_pairs"] >= 1 and "seed" in prompt
    table = capsys.readouterr().out
    assert all(word in table for word in ("mIoU", "PCK", "PSNR", "ceiling", "images/s"))
    assert all(word in table for word in ("nothing", "last label", "mean label", "input", "input tokenized"))
    # Random weights: the query itself is nearer to the clean image than what they draw.
    assert "derain: the model loses to the query itself in restoration/PSNR, " in table
    assert results["derain"]["derain/trivial/input/restoration/PSNR"] > results["derain"]["derain/restoration/PSNR"]
    assert results["pose"]["pose/trivial/nothing/PCK"] == 0
    panels = sorted(Path("panels").glob("*.png"))
    assert [panel.name.split("_")[0] for panel in panels] == ["derain"] * 2 + ["pose"] * 2 + ["seg"] * 2
    assert Image.open(panels[0]).size[0] > 7 * 32  # four images of the pairs, query, prediction, truth, ceiling
    page = Path("shown/report.html").read_text()
    assert page.count('src="data:image/png;base64,') == 3 * 2 and "http" not in page.replace("http-equiv", "")
    for text in ("IoU of classes", "foreground", "PCK of keypoints", "left_ankle", "5 answers", "num pairs 2"):
        assert text in page
    assert f"<td class=best>{results['seg']['seg/mIoU']:.4g}</td>" in page


def test_prompts_of_several_seeds_give_a_mean_and_a_spread(work, monkeypatch, capsys):
    ask = ("config.py", "model.pth", "--task", "derain", "--out", "results.json")
    test(monkeypatch, *ask, "--prompt-seeds", "0", "4")
    (results,) = json.loads(Path("results.json").read_text()).values()
    name = "derain/trivial/last_label/restoration/PSNR"  # what the model draws is the same after any prompt
    first, second = (results["seeds"][seed][name] for seed in ("0", "4"))
    assert results[name] == pytest.approx((first + second) / 2)
    assert results["spread"][name] == pytest.approx(abs(first - second) / 2**0.5)
    assert f"{results[name]:.4g} ± {results['spread'][name]:.2g}" in capsys.readouterr().out
    seed = "tasks.derain.dataloader.dataset.seed=4"
    test(monkeypatch, *ask, "--cfg-options", seed)
    (alone,) = json.loads(Path("results.json").read_text()).values()
    assert alone[name] == second and alone["prompt"]["seed"] == 4


def test_an_ensemble_is_an_option_of_the_config(work, monkeypatch):
    pairs = "tasks.seg.dataloader.dataset.num_pairs=4"
    options = [pairs, "model.ensemble.size=2", "model.ensemble.combine=vote"]
    test(monkeypatch, "config.py", "model.pth", "--task", "seg", "--out", "results.json", "--cfg-options", *options)
    (results,) = json.loads(Path("results.json").read_text()).values()
    assert results["prompt"]["num_pairs"] == 4 and 0 <= results["seg/mIoU"] <= 100


def test_the_log_of_a_task_has_its_own_scores_alone(work, monkeypatch):
    test(monkeypatch, "config.py", "model.pth", "--task", "seg", "derain", "--work-dir", "run")
    (log,) = Path("run").glob("*/*.log")
    ends = [line for line in log.read_text().splitlines() if "images_per_s" in line or "Iter(test) [2/2]    " in line]
    (last,) = [line for line in ends if "derain/restoration/PSNR:" in line]
    assert "seg/" not in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["config.py", "model.pth", "--task", "depth"], "config.py has no task ['depth'], it has ["),
        (["config.py", "gone.pth"], "gone.pth"),
        (["config.py", "config.py"], "config.py is a config, where a checkpoint is expected"),
        (["gone.py", "model.pth"], "no config at gone.py"),
        (["config.py", "model.pth", "--prompt-seeds", "1", "1"], "expected different seeds"),
        (["config.py", "model.pth", "--cfg-options", "model.ensemble.size=2", "model.ensemble.vary=order",
          "tasks.seg.dataloader.dataset.num_pairs=4"], "each of the 2 prompts of the ensemble has 4 pairs"),
        (["config.py", "model.pth", "--cfg-options", "model.backbone.arch.embed_dims=64"], "with another shape"),
        (["config.py", "model.pth", "--cfg-options", "model.backbone.max_positions=383"], "the context of 383"),
        (
            ["config.py", "model.pth", "--cfg-options", "tasks.seg.dataloader.dataset.support.size=30",
             "tasks.seg.dataloader.dataset.query.size=30"],
            "30",
        ),
    ],
)  # fmt: skip
def test_bad_input_gives_one_clear_error_and_a_failing_exit_code(work, monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        test(monkeypatch, *arguments)
    assert stopped.value.code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
