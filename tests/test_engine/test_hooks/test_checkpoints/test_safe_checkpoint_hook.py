"""Saving that is cut short at any moment leaves the checkpoints before it usable."""

import errno
import itertools
import os
import signal
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.checkpoints.files import put_in_place
from delvm_mm.checkpoints.resume import damage_of
from delvm_mm.engine import SaveOnSignalHook
from delvm_mm.engine.hooks import SafeCheckpointHook
from delvm_mm.engine.hooks.checkpoints import safe_checkpoint_hook

NUMBERS = itertools.count()


def runner_of(max_iters=6, hooks=(), **checkpoint):
    cfg = Config.fromfile("student.py")
    cfg.merge_from_dict(
        {
            "work_dir": "run",
            "experiment_name": f"safe_checkpoint_{next(NUMBERS)}",
            "train_cfg.max_iters": max_iters,
            "default_hooks.checkpoint": dict(interval=2, **checkpoint),
            "custom_hooks": list(hooks),
        }
    )
    return Runner.from_cfg(cfg)


def checkpoints():
    return sorted(path.name for path in Path("run").iterdir() if ".pth" in path.name)


def last_named():
    return Path(Path("run/last_checkpoint").read_text()).name


def test_the_oldest_goes_when_its_successor_is_in_place(run_folder, monkeypatch):
    seen = []

    def watched(temporary, path):
        put_in_place(temporary, path)
        seen.append(checkpoints())

    monkeypatch.setattr(safe_checkpoint_hook, "put_in_place", watched)
    runner_of(max_keep_ckpts=1).train()
    assert seen == [["iter_2.pth"], ["iter_2.pth", "iter_4.pth"], ["iter_4.pth", "iter_6.pth"]]
    assert checkpoints() == ["iter_6.pth"]
    assert last_named() == "iter_6.pth"
    assert damage_of("run/iter_6.pth") is None


def test_a_full_disk_stops_the_run_and_leaves_what_was_saved(run_folder, monkeypatch):
    put = LocalBackend.put

    def full(self, content, path):
        if "iter_4" not in str(path):
            return put(self, content, path)
        Path(path).write_bytes(content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalBackend, "put", full)
    with pytest.raises(OSError, match=r"cannot save .*run/iter_4.pth: No space left on device; earlier"):
        runner_of(max_keep_ckpts=1).train()
    assert checkpoints() == ["iter_2.pth"]
    assert last_named() == "iter_2.pth"


def test_what_a_killed_save_left_behind_is_no_checkpoint_and_goes_with_the_next(run_folder, monkeypatch):
    def killed(temporary, path):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(safe_checkpoint_hook, "put_in_place", killed)
        with pytest.raises(SystemExit):
            runner_of().train()
    assert checkpoints() == [".iter_2.pth.tmp"] and not Path("run/last_checkpoint").exists()
    runner_of(max_iters=2).train()
    assert checkpoints() == ["iter_2.pth"]


class Terminate(Hook):
    """Send this process a signal during a step."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("step", [3, 4])
def test_a_signal_saves_the_step_and_ends_the_run(run_folder, step):
    runner = runner_of(hooks=[dict(type="SaveOnSignalHook")])
    runner.register_hook(Terminate(step))
    with pytest.raises(SystemExit) as stopped:
        runner.train()
    assert stopped.value.code == 128 + signal.SIGTERM
    assert last_named() == f"iter_{step}.pth"
    saved = torch.load(f"run/iter_{step}.pth", weights_only=False)
    assert saved["meta"]["iter"] == step
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_cannot_be_heard_or_saved_is_refused(run_folder):
    with pytest.raises(ValueError, match="SIGTREM"):
        SaveOnSignalHook(signals=["SIGTREM"])
    with pytest.raises(ValueError, match="SafeCheckpointHook"):
        runner_of(hooks=[dict(type="SaveOnSignalHook")], type="CheckpointHook").train()


def test_a_misspelled_argument_is_found_before_the_first_checkpoint():
    with pytest.raises(ValueError, match="no argument 'max_keep_ckpt'; did you mean 'max_keep_ckpts'"):
        SafeCheckpointHook(interval=2, max_keep_ckpt=3)
