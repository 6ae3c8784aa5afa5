"""What a user reads when ``delvm train`` is given something wrong."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from delvm_mm.commands import train as train_tool
from delvm_mm.engine import launch
from delvm_mm.engine.configs.files import config_of_checkpoint
from helpers import ROOT

NUMBERS = itertools.count()


class RunsCode:
    """Pickled, it asks to create the file ``executed`` when it is read."""

    def __reduce__(self):
        return open, ("executed", "w")


def train(monkeypatch, *options):
    """Run the tool in this process and return its exit code; MMEngine wants another name for each run."""
    name = f"experiment_name=train_errors_{next(NUMBERS)}"
    options = list(options)
    if "--cfg-options" not in options:
        options.append("--cfg-options")
    monkeypatch.setattr(sys, "argv", ["train.py", "student.py", "--work-dir", "run", *options, name])
    with pytest.raises(SystemExit) as stopped:
        train_tool.main()
    return stopped.value.code


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["train_dataloadr.batch_size=2"], "did you mean 'train_dataloader'"),
        (["model.backbone.archh=80m"], "archh"),
        (["model.backbone.type=LLaMa"], "LLaMa"),
        (["train_dataloader.dataset.stores=[stores/gone]"], "gone"),
        (["train_dataloader.dataset.context=16"], "16"),
        (["model.backbone.max_positions=32"], "sentences have 64 tokens and the model's context is 32"),
        (["model.tokenizer.pretrained=gone"], "gone"),
        (["load_from=student.py"], "student.py"),
        (["load_from=tokenizer/pytorch_model.bin"], "holds no weight of a DeLVM"),
        (["load_from=teacher.pth"], "teacher.pth do not fit DeLVM"),
        (["load_from=gone.pth"], "gone.pth"),
        (["load_from=code.pth"], "refused"),
        (["custom_hooks.3.teacher.checkpoint=teacher.py"], "teacher.py is a config, where a checkpoint is expected"),
        (["custom_hooks.3.teacher.cfg=teacher.pth"], "teacher.pth is a checkpoint, where a config is expected"),
        (["default_hooks.checkpoint.intervall=2"], "SafeCheckpointHook has no argument 'intervall'"),
    ],
)
def test_bad_input_gives_one_clear_error_and_a_failing_exit_code(run_folder, monkeypatch, capsys, options, message):
    torch.save(dict(state_dict=RunsCode()), "code.pth")
    assert train(monkeypatch, "--cfg-options", *options) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert not Path("executed").exists()


def test_a_truncated_checkpoint_is_named_on_resuming(run_folder, monkeypatch, capsys):
    whole = Path("teacher.pth").read_bytes()
    Path("short.pth").write_bytes(whole[: len(whole) // 2])
    assert train(monkeypatch, "--resume", "short.pth") == 1
    assert "short.pth is damaged" in capsys.readouterr().err


def test_mixed_precision_on_top_of_another_wrapper_is_refused(run_folder, monkeypatch, capsys):
    assert train(monkeypatch, "--amp", "--cfg-options", "optim_wrapper.type=AmpOptimWrapper") == 1
    assert "has AmpOptimWrapper; leave --amp out" in capsys.readouterr().err


def test_float16_without_a_gpu_is_refused(run_folder, monkeypatch, capsys):
    monkeypatch.setattr(launch, "get_device", lambda: "cpu")
    assert train(monkeypatch, "--cfg-options", "optim_wrapper.type=AmpOptimWrapper") == 1
    assert "needs a GPU, and there is none here; use 'AutocastOptimWrapper'" in capsys.readouterr().err


HOLDS = """
import sys, time
from delvm_mm.checkpoints.resume import alone_in
with alone_in("run"):
    print("here", flush=True)
    time.sleep(60)
"""


def test_a_second_run_in_a_work_folder_is_refused_until_the_first_is_over(run_folder, monkeypatch, capsys):
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    first = subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert first.stdout.readline() == "here\n"
        assert train(monkeypatch) == 1
        error = capsys.readouterr().err
        assert f"another run is training in run (process {first.pid} on" in error and "--work-dir" in error
        assert os.listdir("run") == [".run_lock"], "nothing was written"
    finally:
        first.kill()
        first.communicate()
    assert train(monkeypatch, "--resume", "gone.pth") == 1
    assert "gone.pth" in capsys.readouterr().err


def test_a_run_may_have_names_that_are_no_utf8(run_folder, monkeypatch, capsys):
    name = os.fsdecode(b"caf\xe9")
    number = next(NUMBERS)
    options = [f"experiment_name=odd_{number}", "train_cfg.max_iters=2", f"codecs.{name}={name}", "custom_hooks=[]"]
    options += ["default_hooks.checkpoint.interval=2"]
    cfg = Config.fromfile("student.py")
    cfg.codecs = dict()
    cfg.dump("student.py")
    monkeypatch.setattr(sys, "argv", ["train.py", "student.py", "--work-dir", name, "--cfg-options", *options])
    train_tool.main()
    shown = capsys.readouterr()
    assert "Logging error" not in shown.out + shown.err
    (log,) = Path(name).glob("*/*.log")
    assert "Checkpoints will be saved to" in log.read_text() and "caf\\udce9" in log.read_text()
    assert config_of_checkpoint(f"{name}/iter_2.pth").codecs == {name: name}
