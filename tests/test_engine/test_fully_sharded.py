"""A sharded model trains as a whole one does; its checkpoints are read and resumed by any number of processes."""

import itertools
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from delvm_mm.checkpoints.io import load_checkpoint
from delvm_mm.commands import consolidate as consolidate_checkpoint
from delvm_mm.engine import FullyShardedDeLVM
from delvm_mm.engine.launch import check_weights_fit, load_weights, use_safe_checkpoints
from delvm_mm.registry import MODELS
from helpers import ROOT
from helpers.tiny_run import make_run_folder

torch_has_it = pytest.mark.skipif(
    tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 7), reason="fully_shard needs torch 2.7"
)
RUNS = ROOT / "tests" / "helpers" / "sharded_run.py"
# (work folder, options): trained by two processes, one run after another
PLANS = {
    "ddp": [],
    "file": ["model_wrapper_cfg.type=FullyShardedDeLVM"],
    "folder": ["model_wrapper_cfg.type=delvm_mm.FullyShardedDeLVM"],
    "bfloat16": ["model_wrapper_cfg.type=FullyShardedDeLVM", "model_wrapper_cfg.param_dtype=bfloat16"],
    "file_from_folder": ["model_wrapper_cfg.type=FullyShardedDeLVM", "model.backbone.with_cp=True"],
    "folder_from_ddp_file": [
        "model_wrapper_cfg.type=FullyShardedDeLVM",
        "model_wrapper_cfg.sync_every_batch=False",
    ],
    "longer": ["model_wrapper_cfg.type=FullyShardedDeLVM", "param_scheduler.0.end=12"],
}
RESUMED = {
    "folder_from_ddp_file": "ddp/iter_3.pth",
    "file_from_folder": "folder/iter_3.pth",
    "longer": "folder/iter_3.pth",
}
NUMBERS = itertools.count()


def write_config():
    cfg = Config.fromfile("student.py")
    cfg.merge_from_dict(
        {
            "train_cfg": dict(type="AccumulatingTrainLoop", max_iters=6, val_interval=3, global_batch_tokens=512),
            "train_dataloader.batch_size": 2,
            # A large epsilon: Adam would turn the rounding of tiny gradients into steps.
            "optim_wrapper.optimizer": dict(type="AdamW", lr=1e-2, eps=1e-3, weight_decay=0.1, fused=True),
            "optim_wrapper.constructor": "GroupedOptimWrapperConstructor",
            "optim_wrapper.paramwise_cfg": dict(bias_decay_mult=0.0),
            "optim_wrapper.clip_grad.max_norm": 0.3,
            "default_hooks.checkpoint.interval": 3,
            "default_hooks.logger.log_metric_by_epoch": False,
            "param_scheduler": [dict(type="CosineAnnealingLR", by_epoch=False, end=6)],
        }
    )
    loader = dict(cfg.train_dataloader, sampler=dict(type="DefaultSampler", shuffle=False))
    cfg.merge_from_dict(
        dict(val_cfg=dict(type="ValLoop"), val_dataloader=loader, val_evaluator=dict(type="TokenMetric"))
    )
    cfg.dump("files.py")
    cfg.custom_hooks.append(dict(type="ShardedCheckpointHook", sharded=True))
    cfg.dump("folders.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder in which two processes have made the runs of ``PLANS``."""
    folder = tmp_path_factory.mktemp("sharded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_run_folder(folder)
        write_config()
        plans = []
        for name, options in PLANS.items():
            resume = ["--resume", RESUMED[name]] if name in RESUMED else []
            config = "folders.py" if name.startswith("folder") else "files.py"
            plans.append([config, name, [*resume, "--cfg-options", f"experiment_name={name}", *options]])
        Path("runs.json").write_text(json.dumps(plans))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT), DELVM_MM_TRACEBACK="1")
        done = subprocess.run(
            [*torchrun, str(RUNS), "runs.json"], capture_output=True, text=True, env=environment, timeout=300
        )
        assert done.returncode == 0, done.stderr[-4000:]
    return folder


def logged(folder, *names):
    """Step -> values of these names, where they were logged."""
    (path,) = folder.glob("*/vis_data/scalars.json")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return {record["step"]: [record[name] for name in names] for record in records if names[0] in record}


def assert_close(ours, theirs, **tolerances):
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, **tolerances)


@torch_has_it
def test_losses_and_gradient_norms_are_those_of_ddp(runs):
    ddp, sharded = (logged(runs / name, "loss", "grad_norm") for name in ("ddp", "file"))
    assert len(ddp) == 6 and ddp.keys() == sharded.keys()
    for step, expected in ddp.items():
        assert sharded[step] == pytest.approx(expected, abs=1e-5)
    assert max(norm for _, norm in ddp.values()) > 0.3, "some gradients must be clipped"
    assert_close(
        load_checkpoint(runs / "file" / "iter_6.pth")["state_dict"],
        load_checkpoint(runs / "ddp" / "iter_6.pth")["state_dict"],
        atol=1e-5,
        rtol=1e-4,
    )


@torch_has_it
def test_validation_scores_are_those_of_ddp(runs):
    ddp, sharded, rounded = (logged(runs / name, "token/perplexity") for name in ("ddp", "file", "bfloat16"))
    assert ddp.keys() == sharded.keys() == {3, 6}
    for step, (expected,) in ddp.items():
        assert sharded[step] == pytest.approx([expected], rel=1e-4)
        assert rounded[step] == pytest.approx([expected], rel=0.05)


@torch_has_it
def test_in_bfloat16_losses_are_near(runs):
    exact, rounded = (logged(runs / name, "loss") for name in ("file", "bfloat16"))
    differences = [abs(rounded[step][0] - loss) for step, (loss,) in exact.items()]
    assert 0 < max(differences) < 0.05
    weights = load_checkpoint(runs / "bfloat16" / "iter_6.pth")["state_dict"]
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.uint8}


@torch_has_it
def test_a_folder_of_shards_is_read_by_one_process_as_the_file_that_ddp_writes(runs):
    whole, file = (load_checkpoint(runs / name / "iter_6.pth") for name in ("folder", "file"))
    assert sorted(path.name for path in (runs / "folder" / "iter_6.pth").iterdir()) == [
        ".metadata",
        "__0_0.distcp",
        "__1_0.distcp",
        "rest.pth",
    ]
    assert_close(whole["state_dict"], file["state_dict"], atol=0, rtol=0)
    assert whole["optimizer"]["param_groups"] == file["optimizer"]["param_groups"]
    assert whole["optimizer"]["state"].keys() == file["optimizer"]["state"].keys()
    for number, values in file["optimizer"]["state"].items():
        assert_close(whole["optimizer"]["state"][number], values, atol=0, rtol=0)
    assert whole["meta"]["iter"] == file["meta"]["iter"] == 6
    ddp = load_checkpoint(runs / "ddp" / "iter_6.pth")
    assert whole.keys() == ddp.keys()
    assert whole["state_dict"].keys() == ddp["state_dict"].keys()
    assert [group["params"] for group in whole["optimizer"]["param_groups"]] == [
        group["params"] for group in ddp["optimizer"]["param_groups"]
    ]


@torch_has_it
def test_a_folder_is_resumed_bit_for_bit(runs):
    assert min(logged(runs / "file_from_folder", "loss")) == 4
    resumed, unbroken = (load_checkpoint(runs / name / "iter_6.pth") for name in ("file_from_folder", "file"))
    assert_close(resumed["state_dict"], unbroken["state_dict"], atol=0, rtol=0)


@torch_has_it
def test_a_file_of_ddp_is_resumed_in_shards(runs):
    assert min(logged(runs / "folder_from_ddp_file", "loss")) == 4
    resumed, unbroken = (load_checkpoint(runs / name / "iter_6.pth") for name in ("folder_from_ddp_file", "ddp"))
    assert_close(resumed["state_dict"], unbroken["state_dict"], atol=1e-5, rtol=1e-4)


@torch_has_it
def test_shards_are_resumed_with_a_longer_schedule(runs):
    rates = {step: rate for step, (rate,) in logged(runs / "longer", "lr").items()}
    assert rates == pytest.approx({step: 1e-2 * (1 + math.cos(math.pi * (step - 1) / 12)) / 2 for step in (4, 5, 6)})


@torch_has_it
@pytest.mark.parametrize("checkpoint", ["folder/iter_3.pth", "file/iter_3.pth"])
def test_one_process_goes_on_from_what_two_have_saved(runs, monkeypatch, checkpoint):
    monkeypatch.chdir(runs)
    use_safe_checkpoints()
    cfg = Config.fromfile("files.py")
    name = f"one_{next(NUMBERS)}"
    cfg.merge_from_dict(dict(work_dir=name, experiment_name=name, resume=True, load_from=checkpoint, log_level="ERROR"))
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.train_loop.micro_batches == 4, "one process takes the batches of two"
    unbroken = load_checkpoint("file/iter_6.pth")["state_dict"]
    resumed = runner.model.state_dict()
    assert_close(resumed, unbroken, atol=1e-5, rtol=1e-4)


@torch_has_it
def test_tools_load_the_weights_in_a_folder(runs, monkeypatch):
    monkeypatch.chdir(runs)
    model = MODELS.build(Config.fromfile("files.py").model)
    load_weights(model, "folder/iter_6.pth")
    file = load_checkpoint("file/iter_6.pth")
    assert_close(model.state_dict(), file["state_dict"], atol=0, rtol=0)
    teacher = MODELS.build(Config.fromfile("teacher.py").model)
    with pytest.raises(ValueError, match=r"folder/iter_6.pth do not fit DeLVM"):
        check_weights_fit(teacher, "folder/iter_6.pth")


def consolidate(monkeypatch, *arguments):
    """Run the tool in this process."""
    monkeypatch.setattr(sys, "argv", ["consolidate_checkpoint.py", *map(str, arguments)])
    consolidate_checkpoint.main()


@torch_has_it
def test_the_tool_makes_one_file_of_a_folder(runs, tmp_path, monkeypatch, capsys):
    out = tmp_path / "whole.pth"
    consolidate(monkeypatch, runs / "folder" / "iter_6.pth", out, "--weights-only")
    file = load_checkpoint(runs / "file" / "iter_6.pth")
    assert load_checkpoint(out).keys() == {"meta", "state_dict"}
    assert_close(load_checkpoint(out)["state_dict"], file["state_dict"], atol=0, rtol=0)
    with pytest.raises(SystemExit):
        consolidate(monkeypatch, out, tmp_path / "again.pth")
    assert "is no folder of shards" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["whole.pth"]


@torch_has_it
def test_a_folder_with_a_shard_missing_or_cut_short_is_refused(runs, tmp_path):
    for number, harm in enumerate((lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:100]))):
        folder = tmp_path / str(number)
        shutil.copytree(runs / "folder" / "iter_3.pth", folder)
        harm(folder / "__1_0.distcp")
        with pytest.raises(ValueError, match="is damaged or incomplete"):
            load_checkpoint(folder)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(runs / "folder" / "iter_3.pth", unfinished)
    (unfinished / ".metadata").unlink()
    with pytest.raises(ValueError, match="incomplete"):
        load_checkpoint(unfinished)


class RunsCode:
    def __reduce__(self):
        return open, ("executed", "w")


@torch_has_it
def test_nothing_in_a_folder_is_executed(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs / "folder" / "iter_3.pth", "evil")
    Path("evil/.metadata").write_bytes(pickle.dumps(RunsCode()))
    with pytest.raises(ValueError, match="refused, nothing was executed"):
        load_checkpoint("evil")
    assert not Path("executed").exists()


def test_what_cannot_be_sharded_is_refused(run_folder):
    with pytest.raises(ValueError, match="wraps a DeLVM"):
        FullyShardedDeLVM(torch.nn.Linear(1, 1))
    model = MODELS.build(Config.fromfile("student.py").model)
    with pytest.raises((RuntimeError, ValueError), match=r"torchrun|torch 2\.7"):
        FullyShardedDeLVM(model)
