"""The quick start from its first step to its table, a few steps of each training long."""

import re
import sys

import pytest
from mmengine.config import Config
from PIL import Image

from helpers import ROOT
from helpers.tools_in_process import run_here
from tools import quickstart


@pytest.mark.filterwarnings("ignore")
def test_it_ends_with_a_table_and_an_image_and_has_nothing_to_do_the_second_time(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["quickstart.py", "--smoke", "--folder", str(tmp_path)])
    monkeypatch.setattr(quickstart, "run_tool", run_here)
    quickstart.main()
    first = capsys.readouterr().out
    assert "finished before" not in first
    for text in (
        "mIoU",
        "PCK",
        "PSNR",
        "SSIM",
        "tokenizer ceiling",
        "last label",
        "input tokenized",
        "the model loses to",
        "unigram entropy",
        "s in all",
    ):
        assert text in first
    image = Image.open(tmp_path / "work_dirs/quickstart/panels.png")
    panels = [Image.open(path) for path in (tmp_path / "work_dirs/quickstart/panels").glob("*.png")]
    assert image.height >= 3 * min(panel.height for panel in panels)

    def refuse(*arguments, **options):
        raise AssertionError(f"nothing is left to do, but {arguments} was run")

    monkeypatch.setattr(quickstart, "run_tool", refuse)
    quickstart.main()
    second = capsys.readouterr().out
    steps = int(first.split("[1/")[1].split("]")[0])
    assert second.count("finished before") == steps >= 5
    table = first[first.index("held-out scenes") : first.index("label tokens")]
    assert table in second

    note = tmp_path / "work_dirs/quickstart/settings"
    note.write_text("of another tokenizer")
    with pytest.raises(SystemExit, match=r"earlier version or with other configs.*--from-scratch"):
        quickstart.main()
    note.unlink()
    with pytest.raises(SystemExit, match="earlier version or with other configs"):
        quickstart.main()
    assert (tmp_path / "work_dirs/quickstart/student.json").exists()


def test_checkpoints_that_documents_name_are_those_that_it_writes():
    pages = [path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]]
    # what follows a smoke run in the same block of commands is its own
    text = "".join(re.sub(r"quickstart\.py --smoke.*?```", "", page, flags=re.DOTALL) for page in pages)
    named = set(re.findall(r"work_dirs/quickstart/(\w+)/iter_(\d+)\.pth", text))
    assert {name for name, _ in named} >= {"teacher", "student_kd"}
    for name, step in named:
        assert Config.fromfile(ROOT / "configs" / "mini" / f"{name}.py").train_cfg.max_iters == int(step)
