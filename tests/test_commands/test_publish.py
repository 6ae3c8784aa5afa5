"""``delvm publish``: what it takes from config and checkpoint, and the tools that read what it makes."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.hooks import EMAHook

from delvm_mm.apis import load_model
from delvm_mm.checkpoints.io import load_state_dict
from delvm_mm.commands import prompt as prompt_tool
from delvm_mm.commands import publish as tool
from delvm_mm.commands import test as test_tool
from delvm_mm.registry import DATASETS, MODELS
from delvm_mm.webui.examples import render_examples
from helpers.small_vqgan import write_small_vqgan

CODECS = dict(seg=dict(type="ForegroundMaskCodec"), pose=dict(type="SkeletonCodec", radius=2, thickness=1))
METRICS = dict(
    seg=dict(type="mmseg.IoUMetric", iou_metrics=["mIoU"]),
    pose=dict(type="mmpose.PCKAccuracy", thr=0.2, norm_item="bbox"),
)


def task_config(task):
    scenes = dict(type="ProceduralScenes", task=task, size=32, pipeline=[dict(type="DrawLabel", codec=CODECS[task])])
    dataset = dict(
        type="VisionPromptDataset", support=dict(**scenes, start=100, length=4), query=dict(**scenes, length=3),
        num_pairs=2, selection="random",
    )  # fmt: skip
    loader = dict(batch_size=3, num_workers=0, dataset=dataset, collate_fn=dict(type="pseudo_collate"))
    loader["sampler"] = dict(type="DefaultSampler", shuffle=False)
    evaluator = dict(type="VisionPromptEvaluator", prefix=task, codec=CODECS[task], metrics=[METRICS[task]])
    return dict(dataloader=loader, evaluator=evaluator)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with ``config.py``, a tokenizer, and ``iter_1.pth`` with optimizer state; the working directory."""
    monkeypatch.chdir(tmp_path)
    write_small_vqgan()
    model = dict(
        type="DeLVM",
        tokenizer=dict(type="VQGAN", pretrained="tokenizer"),
        backbone=dict(
            type="LLaMA", arch=dict(embed_dims=32, num_layers=2, num_heads=4), max_positions=512, init_std=0.5
        ),
        embedding=dict(type="CodebookEmbedding", init_std=1.0),
        head=dict(type="NextTokenHead", init_std=0.5),
        sampler=dict(temperature=0.5, seed=0),
    )
    tasks = {task: task_config(task) for task in CODECS}
    Config(dict(default_scope="delvm_mm", size=32, model=model, tasks=tasks)).dump("config.py")
    built = MODELS.build(model)
    optimizer = torch.optim.AdamW(built.parameters())
    torch.save(dict(state_dict=built.state_dict(), optimizer=optimizer.state_dict(), meta={}), "iter_1.pth")
    return tmp_path


def run(monkeypatch, main, *arguments):
    monkeypatch.setattr(sys, "argv", ["tool", *map(str, arguments)])
    main()


def test_the_folder_has_the_weights_and_the_prompts_of_the_config(work, capsys):
    results = {"seg": {"seg/mIoU": 50.0, "seg/images_per_s": 3.0}}
    Path("scores.json").write_text(json.dumps(results))
    tool.main(["config.py", "iter_1.pth", "out/tiny", "--license", "mit", "--results", "scores.json"])
    (folder,) = Path("out").iterdir()
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:8]
    assert folder.name == f"tiny-{digest}" and str(folder) in capsys.readouterr().out
    stored, trained = load_state_dict(folder), load_state_dict("iter_1.pth")
    assert stored.keys() == trained.keys() and all(torch.equal(stored[name], trained[name]) for name in stored)
    front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert (front["license"], front["metrics"]) == ("mit", ["mIoU"])
    dataset = DATASETS.build(Config.fromfile("config.py").tasks.seg.dataloader.dataset)
    shown = np.asarray(dataset[0]["data_samples"].prompt_images)
    for number, image in enumerate(shown):
        name = f"{number // 2:02d}_{'label' if number % 2 else 'img'}.png"
        np.testing.assert_array_equal(image, prompt_tool.DeLVMInferencer(folder).pipeline(
            folder / "prompts" / "seg" / name).pixels)  # fmt: skip


def test_every_tool_takes_the_folder(work, monkeypatch, capsys):
    tool.main(["config.py", "iter_1.pth", "tiny", "--exact-name"])
    run(monkeypatch, test_tool.main, "config.py", "iter_1.pth", "--task", "seg", "--out", "a.json")
    run(monkeypatch, test_tool.main, "config.py", "tiny", "--task", "seg", "--out", "b.json")
    ours, theirs = (json.loads(Path(name).read_text())["seg"] for name in ("b.json", "a.json"))
    assert {key: value for key, value in ours.items() if "per_s" not in key} == {
        key: value for key, value in theirs.items() if "per_s" not in key
    }
    query = "tiny/prompts/pose/queries/00.png"
    run(monkeypatch, prompt_tool.main, "--model", "tiny", "--task", "pose", "--query", query, "--out", "answers")
    assert json.loads(Path("answers/predictions/00.json").read_text())["task"] == "pose"
    with pytest.raises(SystemExit):
        run(monkeypatch, prompt_tool.main, "--model", "tiny", "--query", query, "--out", "answers")
    assert "give --prompt DIR" in capsys.readouterr().err
    inferencer = prompt_tool.DeLVMInferencer("tiny/", device="cpu")
    assert inferencer.size == 32 and inferencer.model.sampler == dict(temperature=0.5, seed=0)
    examples = render_examples(inferencer)
    assert {example.task for example in examples} == {"seg", "pose"}
    assert [(len(example.pairs), len(example.queries)) for example in examples] == [(2, 3), (2, 3)]


def test_a_task_is_answered_by_an_ensemble_of_its_own_in_the_folder_too(work, monkeypatch):
    cfg = Config.fromfile("config.py")
    cfg.model.sampler = dict(temperature=0.9, seed=0)
    cfg.tasks.seg.ensemble = dict(size=3, vary="draws", combine="mean")
    cfg.dump("drawn_often.py")
    tool.main(["drawn_often.py", "iter_1.pth", "tiny", "--exact-name"])
    inferencer = prompt_tool.DeLVMInferencer("tiny", device="cpu")
    assert inferencer.ensemble("seg").size == 3 and inferencer.ensemble("pose") is inferencer.ensemble() is None
    query = "tiny/prompts/seg/queries/00.png"
    answers = {
        name: inferencer(query, task="seg", **options)["predictions"][0]
        for name, options in dict(own={}, one=dict(ensemble=1), greedy=dict(temperature=0.0)).items()
    }
    assert [len(np.atleast_2d(answers[name]["tokens"])) for name in answers] == [3, 1, 1]
    shown = inferencer.generator.decode(torch.as_tensor(answers["own"]["tokens"]))
    codec = inferencer.codec("seg")
    mask = codec.decode(np.rint(np.mean(shown, axis=0)).astype(np.uint8))
    np.testing.assert_array_equal(answers["own"]["mask"], mask)
    np.testing.assert_array_equal(answers["own"]["image"], codec.encode(mask))
    # The evaluator reads the same from config and folder.
    scores = []
    for name, weights in (("drawn_often.py", "iter_1.pth"), ("drawn_often.py", "tiny")):
        run(monkeypatch, test_tool.main, name, weights, "--task", "seg", "--out", "scores.json")
        scores.append(json.loads(Path("scores.json").read_text())["seg"]["seg/mIoU"])
    assert scores[0] == scores[1]


def test_a_task_chooses_tokens_in_its_own_way_in_the_folder_too(work, monkeypatch):
    """With ``tasks.seg.sampler`` greedy, answers are those of a greedy model; those of the other task are drawn."""
    cfg = Config.fromfile("config.py")
    cfg.model.sampler = dict(temperature=0)
    cfg.dump("greedy.py")
    cfg.model.sampler = dict(temperature=0.9, seed=0)
    cfg.dump("drawn.py")
    cfg.tasks.seg.sampler = dict(temperature=0)
    cfg.dump("mixed.py")
    tool.main(["mixed.py", "iter_1.pth", "tiny", "--exact-name"])
    scores = {}
    for name, weights in (("greedy.py", "iter_1.pth"), ("drawn.py", "iter_1.pth"), ("mixed.py", "tiny")):
        run(
            monkeypatch, test_tool.main, name, weights, "--out", "scores.json", "--show-dir", f"panels_{weights}_{name}"
        )
        of_tasks = json.loads(Path("scores.json").read_text())
        scores[name] = {
            task: [Path(path).read_bytes() for path in sorted(Path(f"panels_{weights}_{name}").rglob(f"*{task}*.png"))]
            for task in of_tasks
        }
    assert scores["greedy.py"]["seg"] and scores["greedy.py"]["seg"] != scores["drawn.py"]["seg"]
    assert scores["mixed.py"] == dict(seg=scores["greedy.py"]["seg"], pose=scores["drawn.py"]["pose"])
    inferencer = prompt_tool.DeLVMInferencer("tiny", device="cpu")
    assert inferencer.sampler("seg") == dict(temperature=0, seed=0)
    assert inferencer.sampler("pose") == inferencer.sampler() == dict(temperature=0.9, seed=0)
    query = "tiny/prompts/seg/queries/00.png"
    answers = [inferencer(query, task="seg", **options)["predictions"][0]["tokens"] for options in (
        {}, dict(temperature=0.0), dict(temperature=0.9))]  # fmt: skip
    assert (answers[0] == answers[1]).all() and (answers[0] != answers[2]).any()


def test_averaged_weights_are_chosen_unless_the_last_are_asked_for(work):
    cfg = Config.fromfile("config.py")
    model = MODELS.build(cfg.model)
    hook, checkpoint = EMAHook(), dict(state_dict=None)
    runner = type("Trained", (), dict(model=model, iter=0))()
    hook.before_run(runner)
    last = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        hook.ema_model.module.head.projection.weight.fill_(7.0)
    checkpoint["state_dict"] = model.state_dict()
    hook.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, "ema.pth")
    tool.main(["config.py", "ema.pth", "averaged", "--exact-name", "--no-prompts"])
    tool.main(["config.py", "ema.pth", "last", "--exact-name", "--no-prompts", "--weights", "last"])
    assert (load_model("averaged").head.projection.weight == 7).all()
    assert torch.equal(load_model("last").head.projection.weight, last["head.projection.weight"])
    assert not Path("averaged/prompts").exists()


def test_bad_input_leaves_nothing(work, capsys):
    Path("mine").mkdir()
    Path("mine/file").write_text("")
    Path("bad.json").write_text("[1]")
    cases = {
        "is no model folder": ["config.py", "iter_1.pth", "mine"],
        "is not what delvm test": ["config.py", "iter_1.pth", "out", "--results", "bad.json"],
        "dtype is 'int8'": ["config.py", "iter_1.pth", "out", "--dtype", "int8"],
        "No weight file at": ["config.py", "iter_2.pth", "out"],
    }
    for message, arguments in cases.items():
        with pytest.raises(SystemExit):
            tool.main(arguments)
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in work.iterdir()) == ["bad.json", "config.py", "iter_1.pth", "mine", "tokenizer"]
