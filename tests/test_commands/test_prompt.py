"""``delvm prompt``: its three commands, what they write, and errors a user can read."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from delvm_mm.codecs import ForegroundMaskCodec
from delvm_mm.commands import prompt as prompt_tool
from delvm_mm.datasets import ProceduralScenes
from helpers import ROOT

TOOL = ROOT / "tools" / "prompt.py"


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder with ``prompt/`` (two pairs), ``queries/`` (three images) and a broken one; the working directory."""
    monkeypatch.chdir(tmp_path)
    for folder in ("prompt", "queries"):
        Path(folder).mkdir()
    scenes = ProceduralScenes(task="seg", size=40, length=5)
    for index in range(2):
        label = ForegroundMaskCodec().encode(scenes[index]["gt_seg_map"])
        Image.fromarray(scenes[index]["img"]).save(f"prompt/{index}_img.png")
        Image.fromarray(label).save(f"prompt/{index}_label.png")
    for index in range(2, 5):
        Image.fromarray(scenes[index]["img"]).save(f"queries/{index}.png")
    Path("broken.png").write_bytes(Path("queries/2.png").read_bytes()[:200])
    return tmp_path


@pytest.fixture
def prompt(images, tiny_model, monkeypatch):
    model = ["--model", tiny_model.config, "--weights", tiny_model.weights, "--device", "cpu"]

    def run(*arguments, model=model):
        monkeypatch.setattr(sys, "argv", ["prompt.py", *arguments, *model])
        prompt_tool.main()

    return run


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_pairs_make_an_ensemble(prompt, capsys):
    ask = ("--prompt", "prompt", "--query", "queries/2.png", "--task", "seg", "--out", "out")
    prompt(*ask, "--ensemble", "2", "--vary", "order", "--combine", "vote")
    assert "1 images in out" in capsys.readouterr().out
    for options, message in ((("--ensemble", "3"), "multiple of 3"), (("--vary", "order"), "such as --ensemble 4")):
        with pytest.raises(SystemExit):
            prompt(*ask, *options)
        assert message in capsys.readouterr().err


def test_queries_are_answered_and_read(prompt, capsys):
    prompt("--prompt", "prompt", "--query", "queries", "--task", "seg", "--out", "out", "--batch-size", "2")
    assert names("out") == ["images", "masks", "original", "predictions", "vis"]
    assert names("out/images") == names("out/vis") == names("out/masks") == ["2.png", "3.png", "4.png"]
    content = json.loads(Path("out/predictions/2.json").read_text())
    assert content["task"] == "seg" and content["mask"]["size"] == [32, 32]
    assert content["path"] == "queries/2.png" and content["crop"]["original_size"] == [40, 40]
    assert Image.open("out/vis/2.png").width > 7 * 32  # four images of the pairs, query, answer, mask
    assert "3 images in out" in capsys.readouterr().out


def test_a_part_of_a_query_is_looked_at_whole(prompt):
    query = ("--query", "queries/2.png", "--bbox", "0", "0", "40", "20", "--fit", "pad")
    prompt("--prompt", "prompt", *query, "--task", "seg", "--out", "out")
    content = json.loads(Path("out/predictions/2.json").read_text())
    assert content["crop"]["box"] == [0, 0, 40, 20] and content["crop"]["offset"] == [0, -8]
    assert content["mask_original"]["size"] == [40, 40] == list(Image.open("out/original/2.png").size)


def test_images_are_completed(prompt):
    prompt("complete", "queries/2.png", "queries/3.png", "--keep", "0.25", "--out", "out")
    assert names("out") == ["images", "original", "predictions", "vis"] and names("out/images") == ["2.png", "3.png"]
    assert json.loads(Path("out/predictions/2.json").read_text())["kept_rows"] == 8


def test_frames_are_continued(prompt):
    prompt("frames", "queries", "--num", "2", "--temperature", "1", "--seed", "1", "--out", "out")
    assert names("out/images") == ["frame_0004.png", "frame_0005.png"]


def test_damaged_queries_are_skipped_when_asked_to(prompt, capsys):
    prompt("--prompt", "prompt", "--query", "broken.png", "queries/2.png", "--out", "out", "--on-error", "skip")
    output = capsys.readouterr().out
    assert "skipped broken.png: broken.png is damaged" in output and "1 images in out, 1 skipped" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "prompt", "--query", "broken.png"], "broken.png is damaged or truncated"),
        (["--prompt", "prompt", "--query", "broken.png", "--on-error", "skip"], "none of 1 images could be read"),
        (["--prompt", "prompt", "--query", "gone.png"], "no image at gone.png"),
        (["--prompt", "queries", "--query", "queries"], "queries holds no prompt pair; expected images in pairs"),
        (["--prompt", "gone", "--query", "queries"], "no folder of prompt pairs at gone"),
        (["--prompt", "prompt", "--query", "queries", "--task", "depth"], "there is no task 'depth'"),
        (["--prompt", "prompt", "--query", "queries", "--top-p", "3"], "top_p is 3.0"),
        (["complete", "queries", "--keep", "1"], "keep is 1.0, of 8 rows of tokens"),
        (["frames", "queries", "--num", "0"], "n is 0"),
    ],
)
def test_bad_input_gives_one_clear_error_and_a_failing_exit_code(prompt, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        prompt(*arguments, "--out", "out")
    assert stopped.value.code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert not Path("out").exists() or not list(Path("out").rglob("*.*"))


def test_half_a_pair_is_named(prompt, capsys):
    Path("prompt/1_label.png").unlink()
    with pytest.raises(SystemExit):
        prompt("--prompt", "prompt", "--query", "queries", "--out", "out")
    assert "1_img.png has no label beside it" in capsys.readouterr().err


def test_an_untrained_quick_start_says_what_to_run(prompt, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("delvm_mm.apis.model_loading.PACKAGE", tmp_path / "delvm_mm")
    with pytest.raises(SystemExit):
        prompt("--prompt", "prompt", "--query", "queries", "--out", "out", model=["--model", "quickstart"])
    assert "make quickstart" in capsys.readouterr().err


def test_the_shipped_model_answers_without_a_word_about_models(prompt, capsys):
    prompt("--prompt", "prompt", "--query", "queries", "--task", "seg", "--out", "out", model=[])
    assert "3 images in out" in capsys.readouterr().out
    assert (96, 96) in {Image.open(path).size for path in Path("out").rglob("*.png")}
