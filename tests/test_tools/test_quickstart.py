"""The quick start from its first step to its table, a few steps of each training long."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from delvm_mm.checkpoints.io import load_state_dict
from delvm_mm.stores import TeacherCache
from helpers import ROOT
from helpers.tools_in_process import run_here
from tools import quickstart

COMMON = ("mIoU", "PCK", "PSNR", "SSIM", "best trivial answer", "tokenizer ceiling", "the model loses to",
          "unigram entropy", "s in all")  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run it as a command, its tools in this process; the names of those that ran."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "options", {})

    def start(*arguments, run_tool=run_here):
        ran = []

        def noted(command, *rest):
            ran.append(Path(command[0]).name)
            run_tool(command, *rest)

        monkeypatch.setattr(sys, "argv", ["quickstart.py", "--smoke", *arguments, "--folder", str(tmp_path)])
        monkeypatch.setattr(quickstart, "run_tool", noted)
        quickstart.main()
        return ran

    return start


def refuse(*arguments):
    raise AssertionError(f"nothing is left to do, but {arguments} was run")


def rows_of(text):
    """Number of the panels in ``panels.png``, all of which are as high."""
    work = Path(text.split("panels: ")[1].split("/panels")[0])
    panels = [Image.open(path).height for path in work.glob("panels/*/*.png")]
    return Image.open(work / "panels.png").height / (panels[0] + quickstart.HEADING)


@pytest.mark.filterwarnings("ignore")
def test_it_distils_the_shipped_model_and_has_nothing_to_do_the_second_time(run, capsys):
    work = Path("work_dirs/quickstart")
    ran = run()
    first = capsys.readouterr().out
    assert "finished before" not in first
    assert ran == ["test.py", "tokenize_dataset.py", "cache_teacher.py", "train.py", "train.py", *["test.py"] * 3]
    for text in (*COMMON, "student, undistilled", "student, distilled", "shipped model"):
        assert text in first
    assert rows_of(first) == 9, "three tasks by three models"

    # Both students had the same start, sentences and steps, and only one of them the teacher's predictions.
    logged = {
        name: [record for record in quickstart.training_records(work / name) if "loss" in record]
        for name in ("student", "student_kd")
    }
    assert "loss_kd" in logged["student_kd"][0] and "loss_kd" not in logged["student"][0]
    cache = TeacherCache(work / "teacher/teacher_cache")
    assert len(cache) == 6 and cache.num_embeddings == 3072
    states = [load_state_dict(work / name / "iter_2.pth") for name in logged]
    assert states[0].keys() == states[1].keys()
    assert max(int(key.split(".")[2]) for key in states[0] if "layers" in key) == 2
    assert not torch.equal(*(state["head.projection.weight"] for state in states))
    configs = [Config.fromfile(ROOT / "configs/quickstart" / f"{name}.py") for name in logged]
    for key in ("model", "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "randomness"):
        assert configs[0][key] == configs[1][key], key

    scores = {name: json.loads((work / f"{name}.json").read_text()) for name in ("student", "student_kd", "mini")}
    for task in ("seg", "pose", "derain"):
        beside = [{k: v for k, v in of[task].items() if "ceiling" in k or "trivial" in k} for of in scores.values()]
        assert beside[0] == beside[1] == beside[2], "the same scenes"

    run(run_tool=refuse)
    second = capsys.readouterr().out
    assert second.count("finished before") == len(ran)
    table = first[first.index("held-out scenes") : first.index("label tokens")]
    assert table in second

    # What is not finished is done again, and nothing else.
    (work / "student_kd/done").unlink()
    (work / "student_kd.json").unlink()
    assert run() == ["train.py", "test.py"]

    note = work / "settings"
    note.write_text("of another tokenizer")
    with pytest.raises(SystemExit, match=r"earlier version or with other configs.*delete that folder"):
        run(run_tool=refuse)
    note.unlink()
    with pytest.raises(SystemExit, match="earlier version or with other configs"):
        run(run_tool=refuse)
    assert (work / "student_kd.json").exists()


@pytest.mark.filterwarnings("ignore")
def test_from_scratch_it_trains_a_teacher_and_deletes_what_was_there(run, capsys):
    work = Path("work_dirs/from_scratch")
    work.mkdir(parents=True)
    (work / "settings").write_text("of an earlier version")
    other = Path("work_dirs/quickstart/settings")
    other.parent.mkdir()
    other.write_text("of the other way")
    ran = run("--from-scratch")
    out = capsys.readouterr().out
    assert ran == ["test.py", "tokenize_dataset.py", "train.py", "train.py", "test.py", "test.py"]
    for text in (*COMMON, "untrained", "teacher", "student"):
        assert text in out
    assert rows_of(out) == 3
    assert all((work / name / "iter_2.pth").exists() for name in ("teacher", "student_kd"))

    def stop(*arguments):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("--from-scratch", run_tool=stop)
    assert [path.name for path in work.iterdir()] == ["settings"]
    assert other.read_text() == "of the other way"


def test_the_table_names_the_best_answer_without_a_model():
    route = quickstart.ROUTES["shipped"]
    results = {model.name: {task: {} for task in quickstart.TASKS} for model in route.scored}
    for number, of in enumerate(results.values()):
        of["seg"] = {
            "seg/mIoU": 60.0 + number, "seg/ceiling/mIoU": 98.0, "seg/trivial/nothing/mIoU": 43.0,
            "seg/trivial/mean_label/mIoU": 44.5, "seg/images_per_s": 1.0, "prompt": "random",
        }  # fmt: skip
    table = quickstart.score_table(route, results)
    cells = [list(column.cells) for column in table.columns]
    assert [column.header for column in table.columns][-4:] == [
        "student, undistilled", "student, distilled", "shipped model", "tokenizer ceiling",
    ]  # fmt: skip
    assert cells == [["seg"], ["mIoU"], ["44.500 (mean label)"], ["60.000"], ["61.000"], ["62.000"], ["98.000"]]


def test_checkpoints_that_documents_name_are_those_that_it_writes():
    pages = [path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]]
    # what follows a smoke run in the same block of commands is its own
    text = "".join(re.sub(r"quickstart\.py [^`\n]*--smoke.*?```", "", page, flags=re.DOTALL) for page in pages)
    named = set(re.findall(r"work_dirs/(quickstart|from_scratch)/(\w+)/iter_(\d+)\.pth", text))
    assert ("quickstart", "student_kd") in {(work, name) for work, name, _ in named}
    routes = {route.work: route for route in quickstart.ROUTES.values()}
    for work, name, step in named:
        assert Config.fromfile(routes[work].config(name)).train_cfg.max_iters == int(step)
