"""``tools/analysis/compare_recipes.py``: what it trains, what it makes of the logs, and a run of a few steps."""

import csv
import io
import json
import math

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from rich.console import Console

import recipe_report
from helpers import ROOT
from helpers.tools_in_process import run_here
from tools.analysis import compare_recipes as compare

CONFIGS = ROOT / "configs" / "comparison"


def write_log(folder, losses, seconds=0.5):
    """Logs of a training with the label losses of (seg, pose, derain) at each step."""
    path = folder / "20260101_000000" / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    lines = []
    for step, values in losses.items():
        lines.append(json.dumps(dict(step=step, loss=1.0, time=seconds)))
        # Losses are means of several validations, as MMEngine logs them; perplexities are not.
        metrics = {"loss": 7.0, "perplexity": math.exp(5.0), "accuracy": 1.0}
        metrics |= {"label/loss": 7.0, "label/perplexity": math.exp(np.mean(values)), "label/accuracy": 2.0}
        metrics |= {"label/unigram_entropy": 6.0}
        for task, value in zip(("seg", "pose", "derain"), values, strict=True):
            metrics |= {f"{task}/{name}": number for name, number in list(metrics.items()) if "/" not in name}
            metrics |= {f"{task}/label/loss": 7.0, f"{task}/label/perplexity": math.exp(value)}
            metrics |= {f"{task}/label/accuracy": 2.0, f"{task}/label/unigram_entropy": math.log(64)}
        lines.append(json.dumps({f"token/{name}": number for name, number in metrics.items()} | dict(step=step)))
    # The process was killed while it wrote.
    path.write_text("\n".join(lines) + '\n{"step": 99, "token/lo')
    return folder


def test_recipes_differ_by_scheme_and_teacher_alone():
    teacher = compare.plan("teacher", "teacher.py", compare.WORK / "teacher", [])
    runs = {name: compare.student(name, 3, [], teacher) for name in compare.RECIPES}
    configs = {name: compare.merged_config(run.config, run.options) for name, run in runs.items()}
    schemes = {name: config.train_dataloader.sampler.scheme for name, config in configs.items()}
    distilled = dict.fromkeys(("augment + KD", "augment + cached KD"), "augment")
    assert schemes == {"mixture": "mixture", "resample": "resample", "augment": "augment"} | distilled
    plain = configs["mixture"]
    for config in configs.values():
        assert config.randomness.seed == config.train_dataloader.sampler.seed == 3
        for key in ("model", "train_cfg", "optim_wrapper", "param_scheduler", "val_dataloader", "val_evaluator"):
            assert config[key] == plain[key]
        assert config.train_dataloader.dataset.stores == plain.train_dataloader.dataset.stores
    teachers = {
        name: [hook["teacher"] for key, hook in config.default_hooks.items() if key not in plain.default_hooks]
        for name, config in configs.items()
    }
    assert [name for name, added in teachers.items() if added] == list(distilled)
    steps = Config.fromfile(CONFIGS / "teacher.py").train_cfg.max_iters
    assert teachers["augment + KD"][0]["checkpoint"] == f"{teacher.folder}/iter_{steps}.pth"
    assert teachers["augment + cached KD"][0] == {"cache": "work_dirs/comparison/teacher_cache"}
    # What a cached teacher needs: sentence i is the same always.
    assert configs["augment + cached KD"].train_dataloader.dataset.assembly == "fixed"
    assert len({run.folder for run in runs.values()}) == len(runs)


def test_the_mixture_is_long_tailed_and_held_out_scenes_are_others():
    stores = {store["out"].split("tokens/")[1]: store for store in Config.fromfile(CONFIGS / "tokens.py").stores}
    used = Config.fromfile(CONFIGS / "student.py")
    assert [path.split("tokens/")[1] for path in used.train_dataloader.dataset.stores] == [
        "train/seg", "train/pose", "train/pose_augmented", "train/derain", "train/derain_augmented"
    ]  # fmt: skip
    for task in ("pose", "derain"):
        plain, copies = stores[f"train/{task}"], stores[f"train/{task}_augmented"]
        assert stores["train/seg"]["dataset"]["length"] >= 50 * plain["dataset"]["length"]
        assert (copies["dataset"]["start"], copies["dataset"]["length"]) == (0, plain["dataset"]["length"])
        assert copies["num_augmented_copies"] == 50
        assert [step["type"] for step in copies["dataset"]["pipeline"]][:2] == ["RandomResizedCrop", "RandomFlip"]
        assert stores[f"val/{task}"]["dataset"]["start"] >= 1_000_000


def test_means_deviations_and_paired_differences_by_hand(tmp_path):
    runs = []
    for recipe, seed, losses in (
        ("mixture", 0, (2.0, 3.0, 4.0)), ("mixture", 1, (2.0, 4.0, 4.0)),
        ("augment", 0, (2.5, 2.0, 3.0)), ("augment", 1, (2.5, 4.5, 3.6)),
    ):  # fmt: skip
        folder = write_log(tmp_path / f"{recipe}{seed}", {10: (9.0, 9.0, 9.0), 20: losses})
        runs.append(recipe_report.collect(folder, recipe, seed))
    teacher = recipe_report.collect(write_log(tmp_path / "teacher", {20: (1.0, 1.0, 1.0)}), "teacher", 0)
    _, header, rows = recipe_report.recipe_table(runs, teacher)
    table = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    pose = np.exp([3.0, 4.0])
    assert table["mixture"]["pose"] == f"{pose.mean():.1f} ± {pose.std(ddof=1):.1f}"
    assert table["mixture"]["mean loss (nats)"] == "3.167 ± 0.236"  # of 3 and 10/3
    assert table["(teacher)"]["seg"] == "2.7" and table["(frequency of codes)"]["derain"] == "64.0"
    _, header, rows = recipe_report.question_table(runs)
    assert [row[0] for row in rows] == ["augment − mixture"], "the other recipes were not trained"
    answer = dict(zip(header, rows[0], strict=True))
    assert answer["seg"] == "+0.500 ± 0.000" and answer["pose"] == "-0.250 ± 1.061"
    # Means: 3 -> 2.5, and 3.333 -> 3.533.
    assert answer["mean"] == "-0.150 ± 0.495" and rows[0][-1] == "1 of 2"


def test_the_report_writes_every_validation_and_a_plot(tmp_path):
    runs = [
        recipe_report.collect(write_log(tmp_path / f"{recipe}", {10: (3.0,) * 3, 20: (2.0,) * 3}), recipe, 0)
        for recipe in ("resample", "augment")
    ]
    text = recipe_report.report(runs, runs[0], tmp_path / "out", Console(file=io.StringIO(), width=200))
    assert "| augment − resample | +0.000 | +0.000 | +0.000 | +0.000 | 0 of 1 |" in text
    rows = list(csv.DictReader((tmp_path / "out/comparison.csv").open()))
    assert len(rows) == 3 * 2 * 4  # runs and teacher, two validations, three tasks and all
    assert {(row["step"], row["label_loss"]) for row in rows if row["task"] == "pose"} == {
        ("10", "3.00000"), ("20", "2.00000")
    }  # fmt: skip
    assert Image.open(tmp_path / "out/comparison.png").size[0] > 1000


def test_the_page_says_what_the_numbers_beside_it_say():
    docs = ROOT / "docs"
    results = recipe_report.read_csv(docs / "data" / "comparison.csv")
    for result in results:
        for step, metrics in result.validation.items():
            for task in ("", "seg/", "pose/", "derain/"):
                loss, perplexity = metrics[f"{task}label/loss"], metrics[f"{task}label/perplexity"]
                assert loss == pytest.approx(math.log(perplexity), abs=2e-5), (result.recipe, result.seed, step)
    (teacher,) = (result for result in results if result.recipe == "teacher")
    students = [result for result in results if result.recipe != "teacher"]
    page = (docs / "comparison.md").read_text()
    shown = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    (_, columns, rows), (_, _, differences) = (
        recipe_report.recipe_table(students, teacher),
        recipe_report.question_table(students),
    )
    seconds = columns.index("s a step")  # not in the file
    assert [row[:seconds] for row in rows] == [line[:seconds] for line in shown if line[0] in {row[0] for row in rows}]
    assert differences == [line for line in shown if "\N{MINUS SIGN}" in line[0]]
    # The table itself, of the last validations: perplexities of one recipe by hand.
    last = [result.validation[300]["derain/label/perplexity"] for result in students if result.recipe == "mixture"]
    assert rows[0][3] == f"{np.mean(last):.1f} ± {np.std(last, ddof=1):.1f}" == "208.3 ± 12.9"


def test_logs_without_validation_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing hold no validation"):
        recipe_report.collect(tmp_path / "nothing", "mixture", 0)


@pytest.mark.filterwarnings("ignore")
def test_a_few_steps_of_everything_and_nothing_the_second_time(tmp_path, monkeypatch, capsys):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "comparison.md").write_text("<!-- begin: compare_recipes.py -->\n<!-- end: compare_recipes.py -->\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "run_tool", run_here)
    command = ["--smoke", "--folder", str(tmp_path), "--seeds", "5", "--docs", str(docs)]
    recipes = ["--recipes", "augment + KD", "augment + cached KD"]
    compare.main([*command, *recipes])
    for name in ("augment_kd_5", "augment_cached_kd_5"):
        text = next((tmp_path / "work_dirs/comparison/runs" / name).glob("*/vis_data/scalars.json")).read_text()
        assert "loss_kd" in text
    assert "| augment + cached KD − augment + KD | " in (docs / "comparison.md").read_text()
    assert (docs / "comparison.png").exists() and (docs / "data/comparison.csv").exists()
    capsys.readouterr()

    def refuse(*arguments, **options):
        raise AssertionError(f"nothing is left to do, but {arguments} was run")

    monkeypatch.setattr(compare, "run_tool", refuse)
    compare.main([*command, *recipes])
    out = capsys.readouterr().out
    assert "1 of 1 trainings are finished" in out and "2 of 2 trainings are finished" in out
    # Without --smoke the same folders are asked for other steps: these results are not those.
    with pytest.raises(SystemExit, match="was made with other settings"):
        compare.main([*command[1:], *recipes])
