"""Which checkpoint a run goes on from, when some are damaged, missing, or of another run."""

import logging
import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from delvm_mm.checkpoints.resume import damage_of, decide_start, find_resumable_checkpoint
from helpers import ROOT

TRAIN = ROOT / "tools" / "train.py"


@pytest.fixture
def work_dir(tmp_path):
    """Checkpoints of steps 4, 8 and 12, of which ``last_checkpoint`` names the last."""
    for step in (4, 8, 12):
        torch.save(
            dict(meta=dict(), optimizer=dict(), weight=torch.full((1000,), float(step))), tmp_path / f"iter_{step}.pth"
        )
        os.utime(tmp_path / f"iter_{step}.pth", (step, step))
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_12.pth"))
    return tmp_path


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path):
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


DAMAGES = [cut, overwrite, empty, Path.unlink]


def test_the_named_checkpoint_is_used_where_it_is_whole(work_dir):
    assert find_resumable_checkpoint(work_dir) == (str(work_dir / "iter_12.pth"), [])


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used_and_the_log_says_so(work_dir, damage):
    damage(work_dir / "iter_12.pth")
    path, notes = find_resumable_checkpoint(work_dir)
    assert path == str(work_dir / "iter_8.pth")
    assert f"{work_dir / 'iter_12.pth'} is not used: " in notes[0] and notes[1] == f"resuming from {path} instead"
    cut(work_dir / "iter_8.pth")
    assert find_resumable_checkpoint(work_dir)[0] == str(work_dir / "iter_4.pth")


@pytest.mark.parametrize("content", [None, "", "\0\0", b"\xff\xfe"])
def test_the_youngest_whole_one_is_used_where_last_checkpoint_says_nothing(work_dir, content):
    note = work_dir / "last_checkpoint"
    note.unlink()
    if content is not None:
        note.write_bytes(content if isinstance(content, bytes) else content.encode())
    cut(work_dir / "iter_12.pth")
    os.utime(work_dir / "iter_4.pth", (10, 10))
    assert find_resumable_checkpoint(work_dir)[0] == str(work_dir / "iter_4.pth")


def test_a_moved_folder_is_found_again(work_dir, tmp_path_factory):
    (work_dir / "last_checkpoint").write_text("/elsewhere/run/iter_8.pth")
    assert find_resumable_checkpoint(work_dir)[0] == str(work_dir / "iter_8.pth")


def test_steps_beyond_the_named_one_are_those_of_an_earlier_run(work_dir):
    (work_dir / "last_checkpoint").write_text(str(work_dir / "iter_8.pth"))
    cut(work_dir / "iter_8.pth")
    assert find_resumable_checkpoint(work_dir)[0] == str(work_dir / "iter_4.pth")


def test_a_run_without_checkpoints_begins(tmp_path):
    assert find_resumable_checkpoint(tmp_path) == (None, [])


def test_a_run_of_which_nothing_is_whole_does_not_begin_anew_unasked(work_dir):
    for step in (4, 8, 12):
        cut(work_dir / f"iter_{step}.pth")
    with pytest.raises(ValueError, match=r"no checkpoint in .* is whole .*iter_12.*iter_8.*iter_4"):
        find_resumable_checkpoint(work_dir)


def test_a_sharded_checkpoint_is_whole_once_its_metadata_is_there(tmp_path):
    assert damage_of(tmp_path) == "an empty folder"
    (tmp_path / "__0_0.distcp").touch()
    assert "not finished" in damage_of(tmp_path)
    (tmp_path / ".metadata").touch()
    assert damage_of(tmp_path) is None
    (tmp_path / "rest.pth").write_bytes(b"half")
    assert "cut short" in damage_of(tmp_path)


def runner_of(work_dir, resume=False, load_from=None):
    return SimpleNamespace(
        work_dir=str(work_dir), _resume=resume, _load_from=load_from, logger=logging.getLogger("resume")
    )


def started(runner, restarts=None):
    environment = {} if restarts is None else dict(TORCHELASTIC_RESTART_COUNT=restarts, TORCHELASTIC_MAX_RESTARTS="3")
    return decide_start(runner, environment=environment), runner._resume


def test_a_named_checkpoint_is_used_or_refused_but_not_replaced(work_dir):
    named = str(work_dir / "iter_8.pth")
    assert started(runner_of(work_dir, True, named)) == (named, True)
    cut(work_dir / "iter_8.pth")
    with pytest.raises(ValueError, match=r"iter_8.pth is damaged or missing: cut short"):
        started(runner_of(work_dir, True, named))


def test_weights_to_start_from_are_no_resume(work_dir):
    assert started(runner_of(work_dir, False, "teacher.pth")) == ("teacher.pth", False)
    assert started(runner_of(work_dir)) == (None, False)


def test_resuming_where_nothing_is_begins_and_says_so(tmp_path, caplog):
    assert started(runner_of(tmp_path, True)) == (None, False)
    assert "training from the start" in caplog.text


def test_resuming_where_nothing_is_begins_from_the_configs_own_weights(tmp_path, work_dir):
    runner = runner_of(tmp_path / "new", True)
    assert decide_start(runner, "multi_task.pth", environment={}) == "multi_task.pth" and not runner._resume
    resumed = runner_of(work_dir, True)
    assert decide_start(resumed, "multi_task.pth", environment={}).endswith("iter_12.pth") and resumed._resume


def test_a_run_restarted_by_torchrun_resumes_from_its_own_checkpoints_only(work_dir, caplog):
    # The checkpoints in the folder are older than the run.
    assert started(runner_of(work_dir), restarts="0") == (None, False)
    assert started(runner_of(work_dir), restarts="1") == (None, False)
    assert "restart 1 by torchrun: there is no checkpoint yet" in caplog.text
    torch.save(dict(weight=torch.zeros(3)), work_dir / "iter_4.pth")
    (work_dir / "last_checkpoint").write_text(str(work_dir / "iter_4.pth"))
    path = str(work_dir / "iter_4.pth")
    assert started(runner_of(work_dir), restarts="2") == (path, True)
    assert f"restart 2 by torchrun: resuming from {path}" in caplog.text
    # Also where the run itself began with weights, or with another checkpoint.
    assert started(runner_of(work_dir, False, "teacher.pth"), restarts="2") == (path, True)
    assert started(runner_of(work_dir, True, str(work_dir / "iter_12.pth")), restarts="2") == (path, True)


def test_a_resumed_run_that_is_restarted_may_use_what_it_resumed_from(work_dir):
    path = str(work_dir / "iter_12.pth")
    assert started(runner_of(work_dir, True), restarts="0") == (path, True)
    assert started(runner_of(work_dir, True), restarts="1") == (path, True)


def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(run_folder, monkeypatch):
    def train(name, steps, *options):
        settings = [f"train_cfg.max_iters={steps}", f"experiment_name=resume_{name}", "custom_hooks=[]"]
        monkeypatch.setattr(
            sys, "argv", ["train.py", "student.py", "--work-dir", name, *options, "--cfg-options", *settings]
        )
        runpy.run_path(str(TRAIN), run_name="__main__")
        return torch.load(f"{name}/iter_{steps}.pth", weights_only=False)["state_dict"]

    train("broken", 8)
    cut(Path("broken/iter_8.pth"))
    resumed = train("broken", 12, "--resume")
    log = "".join(path.read_text() for path in Path("broken").glob("*/*.log"))
    assert (
        "iter_8.pth is not used: cut short" in log
        and "iter_4.pth instead" in log
        and "resumed epoch: 0, iter: 4" in log
    )
    torch.testing.assert_close(resumed, train("unbroken", 12), rtol=0, atol=0)


@pytest.mark.parametrize("content", [dict(state_dict={}), dict(state_dict={}, meta=dict(iter=4, epoch=0))])
def test_weights_alone_are_nothing_to_resume_from(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    runner = SimpleNamespace(
        work_dir=str(tmp_path), _resume=True, _load_from=str(tmp_path / "weights.pth"), logger=logging.getLogger()
    )
    with pytest.raises(ValueError, match=r"weights\.pth has no \[.*'optimizer'\].*load_from=FILE"):
        decide_start(runner)
