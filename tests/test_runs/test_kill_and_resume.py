"""Training killed with SIGKILL at random steps, again and again: what comes out is the unbroken run, bit for bit.

``DELVM_MM_KILL_ROUNDS=10`` makes it ten kills a case instead of two.
"""

import json
import multiprocessing
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from delvm_mm.checkpoints.io import load_state_dict
from delvm_mm.precompute import cache_teacher
from delvm_mm.registry import DATASETS, MODELS
from helpers import ROOT

TRAIN = ROOT / "tools" / "train.py"
MINI_TOKENIZER = ROOT / "configs" / "mini" / "tokenizer.py"
ROUNDS = int(os.environ.get("DELVM_MM_KILL_ROUNDS", "2"))
MAX_STEPS_BETWEEN_KILLS = 9
STEPS = MAX_STEPS_BETWEEN_KILLS * (ROUNDS + 1)
# What is trained -> its config, and the part of the loss that shows it.
CASES = {
    "online distillation": ("student.py", "loss_kd"),
    "offline distillation": ("offline.py", "loss_kd"),
    "tokenizer": ("tokenizer.py", "loss_commit"),
}
FORK = multiprocessing.get_context("fork")


def one_process(rank, processes, port, config, work_dir, options):
    """Be one process of a run of ``tools/train.py``; forked, for the seconds that importing everything would take."""
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(f"{work_dir}.log", "a")  # noqa: SIM115
    if processes > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        options = ["--launcher", "pytorch", *options]
    sys.argv = ["train.py", config, "--work-dir", work_dir, *options]
    runpy.run_path(str(TRAIN), run_name="__main__")


def start(processes, config, work_dir, options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        FORK.Process(target=one_process, args=(rank, processes, port, config, work_dir, options))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    return started


def run(processes, config, work_dir, options):
    started = start(processes, config, work_dir, options)
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [0] * processes, Path(f"{work_dir}.log").read_text()[-3000:]


def run_until_killed(processes, config, work_dir, options, step, delay):
    started = start(processes, config, work_dir, options)
    while max(curve(work_dir), default=0) < step and all(process.is_alive() for process in started):
        time.sleep(0.002)
    time.sleep(delay)
    for process in started:
        process.kill()
    for process in started:
        process.join()
    codes = [process.exitcode for process in started]
    # The first to be killed may end the other by itself: their connection breaks.
    assert codes[0] == -signal.SIGKILL, f"{codes}: {Path(f'{work_dir}.log').read_text()[-3000:]}"


def curve(work_dir):
    """Step -> the values of that step in the log, in full precision, of every time it was made."""
    found = {}
    for path in sorted(Path(work_dir).glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # a killed process may leave half a line
                record = json.loads(line)
                values = {key: value for key, value in record.items() if "loss" in key or key in ("lr", "grad_norm")}
                found.setdefault(record["step"], []).append(values)
    return found


def final_state(work_dir):
    """Weights and optimizer state at the end, and everything else that a schedule or the next step depends on."""
    saved = torch.load(f"{work_dir}/iter_{STEPS}.pth", weights_only=False)
    return (saved["state_dict"], saved["optimizer"]["state"]), (
        saved["optimizer"]["param_groups"],
        saved["param_schedulers"],
    )


def options_of(processes):
    return ["--cfg-options", f"train_cfg.max_iters={STEPS}", f"train_dataloader.batch_size={4 // processes}"]


@pytest.fixture
def offline_config(run_folder):
    """``offline.py``: the student with a cache of the teacher's predictions, and the teacher's files gone."""
    cfg = Config.fromfile("student.py")
    cfg.train_dataloader.dataset.assembly = "fixed"
    teacher = MODELS.build(Config.fromfile("teacher.py").model)
    teacher.load_state_dict(load_state_dict("teacher.pth"))
    cache_teacher(DATASETS.build(cfg.train_dataloader.dataset), teacher, "cache", top_k=8)
    hooks = [hook for hook in cfg.custom_hooks if hook["type"] != "DistillationHook"]
    cfg.custom_hooks = [*hooks, dict(type="DistillationHook", teacher=dict(cache="cache"))]
    cfg.dump("offline.py")
    os.remove("teacher.pth")


@pytest.fixture
def tokenizer_config(run_folder):
    """``tokenizer.py``: the mini tokenizer's recipe with a small network, few scenes and codes that move often."""
    cfg, recipe = Config.fromfile("student.py"), Config.fromfile(str(MINI_TOKENIZER))
    small = dict(resolution=16, hidden_channels=8, channel_mult=(1, 2), num_embeddings=24)
    cfg.model = recipe.model
    cfg.model.update(vqgan={**recipe.model.vqgan, **small}, restart_after=5)
    cfg.train_dataloader = recipe.train_dataloader
    for dataset in cfg.train_dataloader.dataset.datasets:
        dataset.update(size=16, length=6)
    cfg.optim_wrapper, cfg.custom_hooks = recipe.optim_wrapper, []
    cfg.dump("tokenizer.py")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_again_and_again_it_is_the_unbroken_run(run_folder, request, processes, case):
    (config, part), options = CASES[case], options_of(processes)
    if config != "student.py":
        request.getfixturevalue(config.replace(".py", "_config"))
    run(processes, config, "unbroken", options)
    unbroken = curve("unbroken")
    assert sorted(unbroken) == list(range(1, STEPS + 1)) and all(part in times[0] for times in unbroken.values())

    chance = random.Random(processes)
    for _ in range(ROUNDS):
        note = Path("killed/last_checkpoint")
        step = int(note.read_text().rpartition("_")[2].removesuffix(".pth")) if note.exists() else 0
        # From a step that must be made again to one behind two more checkpoints; now and then while one is saved.
        step += chance.randint(1, MAX_STEPS_BETWEEN_KILLS)
        run_until_killed(processes, config, "killed", ["--resume", *options], step, chance.choice([0, 0.01, 0.03]))
    run(processes, config, "killed", ["--resume", *options])

    killed = curve("killed")
    assert killed.keys() == unbroken.keys()
    for step, times in killed.items():
        assert all(values == unbroken[step][0] for values in times), step
    (tensors, others), (expected_tensors, expected_others) = final_state("killed"), final_state("unbroken")
    torch.testing.assert_close(tensors, expected_tensors, rtol=0, atol=0)
    assert others == expected_others


DIES_ONCE = """
import os
import signal

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class DiesOnce(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if get_rank() == 1 and runner.iter == 10 and not os.path.exists("died"):
            open("died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_under_torchrun_comes_back_from_the_last_checkpoint(run_folder):
    Path("dies_once.py").write_text(DIES_ONCE)
    Path("mortal.py").write_text(
        "_base_ = 'student.py'\n"
        "custom_imports = dict(imports=['dies_once'])\n"
        "custom_hooks = [*_base_.custom_hooks, dict(type='DiesOnce')]\n"
    )
    options = options_of(2)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=3"]
    paths = os.pathsep.join([str(run_folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*torchrun, str(TRAIN), "mortal.py", "--work-dir", "mortal", *options],  # it sees who started it
        capture_output=True,
        text=True,
        env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=paths),
        timeout=300,
    )
    assert done.returncode == 0 and Path("died").exists(), done.stderr[:3000] + done.stderr[-3000:]
    logs = [path.read_text() for path in sorted(Path("mortal").glob("*/*.log")) if "_rank" not in path.name]
    # Steps 9 and 10 were made and are not in the checkpoint of step 8.
    assert len(logs) == 2 and "restart 1 by torchrun: resuming from" in logs[1] and "iter_8.pth" in logs[1]

    run(2, "student.py", "unbroken", options)
    unbroken, mortal = curve("unbroken"), curve("mortal")
    assert {step for step, times in mortal.items() if len(times) == 2} == {9, 10}
    assert mortal.keys() == unbroken.keys()
    assert all(values == unbroken[step][0] for step, times in mortal.items() for values in times)


def test_processes_save_the_same_step_when_one_gets_a_signal(run_folder):
    hook = ["default_hooks.signal.type=SaveOnSignalHook", "default_hooks.signal.interval=5"]
    started = start(2, "student.py", "preempted", [*options_of(2), *hook])
    while len(curve("preempted")) < 3 and started[1].is_alive():
        time.sleep(0.002)
    os.kill(started[1].pid, signal.SIGTERM)
    for process in started:
        process.join(300)
    log = Path("preempted.log").read_text()
    assert [process.exitcode for process in started] == [128 + signal.SIGTERM] * 2, log[-3000:]
    saved = Path(Path("preempted/last_checkpoint").read_text())
    last = max(curve("preempted"))
    assert last % 5 == 0 and saved.name == f"iter_{last}.pth" and f"SIGTERM: saving step {last}" in log
