"""``tools/analysis/prompt_study.py``, called in this process: what it scores, keeps and writes."""

import csv
import json
import statistics
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from delvm_mm.models import DeLVM
from delvm_mm.registry import MODELS
from helpers.small_vqgan import write_small_vqgan
from prompt_study_settings import TaskFacts, settings_of
from tools.analysis import prompt_study

CODECS = dict(seg=dict(type="ForegroundMaskCodec"), derain=dict(type="RestorationCodec", detail=0.5))
METRICS = dict(seg=dict(type="ForegroundIoUMetric"), derain=dict(type="RestorationMetric", channels=["rgb"]))
SIZE = 16  # 4 x 4 tokens


def task_config(task):
    draw = [dict(type="DrawLabel", codec=CODECS[task])]
    scenes = dict(type="ProceduralScenes", task=task, size=SIZE, pipeline=draw)
    dataset = dict(
        type="VisionPromptDataset",
        support=dict(**scenes, start=100, length=6),
        query=dict(**scenes, length=4),
        num_pairs=3,
    )
    evaluator = dict(type="VisionPromptEvaluator", prefix=task, codec=CODECS[task], metrics=[METRICS[task]])
    return dict(dataloader=dict(dataset=dataset), evaluator=evaluator)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder with ``config.py`` of two tasks, and ``model.pth``, whose context holds two pairs."""
    monkeypatch.chdir(tmp_path)
    write_small_vqgan()
    model = dict(
        type="DeLVM",
        tokenizer=dict(type="VQGAN", pretrained="tokenizer"),
        backbone=dict(
            type="LLaMA", arch=dict(embed_dims=32, num_layers=1, num_heads=4), max_positions=6 * 16, init_std=0.5
        ),
        embedding=dict(type="CodebookEmbedding", init_std=1.0),
        head=dict(type="NextTokenHead", init_std=0.5),
    )
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), "model.pth")
    Config(dict(model=model, tasks={task: task_config(task) for task in CODECS})).dump("config.py")

    def run(*options):
        arguments = ["config.py", "model.pth", "--num-samples", "2", "--ensembles", "2", "--out", "out", *options]
        prompt_study.main([*arguments, "--device", "cpu"])

    return run


def test_all_parts_are_scored_and_written_and_nothing_twice(study, monkeypatch, capsys):
    Path("docs").mkdir()
    Path("docs/prompting.md").write_text(
        "Before\n<!-- begin: prompt_study.py -->\n<!-- end: prompt_study.py -->\nAfter\n"
    )
    study("--seeds", "0", "1", "--docs", "docs")
    text = Path("out/prompt_study.md").read_text()
    for part in ("Number of pairs", "Choice of the pairs", "Order of the pairs", "Ensembles", "Controls"):
        assert f"{part}" in text
    for row in ("no pair", "1 random pair ", "2 random pairs", "nearest by codes", "diverse", "2 orders", "in reverse",
                "2 prompts of 2 pairs, mean distribution", "majority of the answers", "labels shuffled",
                "pairs of another task", "no prompt", "tokenizer ceiling", "best trivial answer"):  # fmt: skip
        assert f"| {row}" in text or row in text, row
    assert text.strip() in Path("docs/prompting.md").read_text()
    assert Image.open("docs/prompting.png").width > 500 and Path("docs/data/prompting.csv").exists()

    with open("out/prompt_study.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    base = [row for row in rows if row["setting"] == "2 random pairs" and row["task"] == "derain"]
    values = [float(row["value"]) for row in base if row["metric"] == "restoration/PSNR"]
    assert len(values) == 2 and f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}" in text
    assert "derain: PSNR | seg: IoU" in text
    # Restorations have no majority.
    assert {row["task"] for row in rows if "majority" in row["setting"]} == {"seg"}

    # The same again scores nothing, one more seed only what it adds.
    calls, predict = [], DeLVM.predict
    monkeypatch.setattr(DeLVM, "predict", lambda self, *given: calls.append(given) or predict(self, *given))
    study("--seeds", "0", "1")
    assert not calls and "0 of" not in capsys.readouterr().out.splitlines()[-1]
    assert Path("out/prompt_study.md").read_text().strip() == text.strip()
    study("--seeds", "0", "1", "2", "--parts", "pairs", "--task", "derain")
    assert len(calls) == 2  # one pair, and two; what no seed chooses stays


def test_a_study_that_is_stopped_writes_what_it_has_and_goes_on(study, capsys):
    options = ("--seeds", "3", "--task", "derain", "--parts", "controls")
    study(*options, "--minutes", "0")
    assert "2 scores are missing: run the same command again" in capsys.readouterr().out
    assert len(json.loads(Path("out/scores.json").read_text())) == 1
    assert "Controls" not in Path("out/prompt_study.md").read_text()
    study(*options)
    assert "no prompt" in Path("out/prompt_study.md").read_text()


def test_scores_are_those_of_the_evaluation_tool(study):
    study("--seeds", "3", "--task", "derain", "--parts", "controls", "--num-samples", "4")
    scores = json.loads(Path("out/scores.json").read_text())
    cfg = Config.fromfile("config.py")
    from delvm_mm.registry import DATASETS, EVALUATOR

    dataset = DATASETS.build(cfg.tasks.derain.dataloader.dataset | dict(num_pairs=2, selection="random", seed=3))
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load("model.pth")["state_dict"], strict=False)
    evaluator = EVALUATOR.build(cfg.tasks.derain.evaluator | dict(prefix=None))
    evaluator.dataset_meta = dataset.metainfo
    for sample in dataset:
        batch = dict(inputs=[sample["inputs"]], data_samples=[sample["data_samples"]])
        evaluator.process(model.test_step(batch))
    expected = evaluator.evaluate(4)
    (of_base,) = [results for results in scores.values() if "ceiling/restoration/PSNR" in results]
    assert of_base == pytest.approx(expected)


def test_what_a_task_has_not_is_left_out():
    facts = TaskFacts(max_pairs=7, num_pairs=1, num_support=4, has_classes=True, reads_classes=True)
    names = [setting.name for setting in settings_of(facts, ("pairs", "ensembles", "controls"), [2, 8], False, None)]
    assert names[0] == "1 random pair" and "3 random pairs" in names and "4 random pairs" not in names
    assert not any("8 prompts" in name or "shuffled" in name or "another task" in name for name in names)
    chosen = settings_of(facts, ("selection",), [2], True, "torchvision.resnet50")
    assert {"random pairs of the class", "nearest by encoder, of the class", "nearest by torchvision.resnet50"} <= {
        setting.name for setting in chosen
    }


def test_a_task_or_context_that_does_not_do_is_named(study, capsys):
    for options, message in (
        (["--task", "depth"], "has no task ['depth']"),
        (["--cfg-options", "model.backbone.max_positions=48"], "holds no pair, query and answer of"),
    ):
        with pytest.raises(SystemExit):
            study(*options)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--seeds", "0", "0"], "expected different ones"),
        (["--ensembles", "1"], "expected at least 1 (ensembles: 2)"),
        (["--backbone", "torchvision.resnet18"], "go together"),
    ],
)
def test_arguments_that_do_not_do_are_named(capsys, options, message):
    with pytest.raises(SystemExit):
        prompt_study.parse_args(["config.py", "model.pth", *options])
    assert message in capsys.readouterr().err
