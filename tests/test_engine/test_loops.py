"""One iteration of the loop is one optimizer step, whatever number of batches it takes."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.engine.launch import use_safe_checkpoints
from delvm_mm.engine.loops import count_micro_batches
from helpers import ROOT

TRAIN = ROOT / "tools" / "train.py"
STEPS = 4
# Adam divides tiny gradients by themselves, which turns rounding into steps; plain descent keeps rounding small.
DESCENT = {"optim_wrapper.optimizer": dict(type="SGD", lr=0.3, momentum=0.9)}
NUMBERS = itertools.count()


def config(work_dir, batch_size, **changes):
    cfg = Config.fromfile("student.py")
    cfg.merge_from_dict(
        {
            "work_dir": work_dir,
            "experiment_name": f"loops_{next(NUMBERS)}",
            "train_cfg": dict(type="AccumulatingTrainLoop", max_iters=STEPS),
            "train_dataloader.batch_size": batch_size,
            "default_hooks.checkpoint.interval": 2,
            "param_scheduler": [dict(type="CosineAnnealingLR", by_epoch=False, end=STEPS)],
            "log_level": "ERROR",
        }
        | changes
    )
    return cfg


def trained(*args, hooks=(), resume=None, **changes):
    use_safe_checkpoints()
    cfg = config(*args, **changes)
    if resume:
        cfg.resume, cfg.load_from = True, resume
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def weights(path):
    return torch.load(path, weights_only=False)["state_dict"]


class Watcher(Hook):
    """Keeps what hooks are shown."""

    def __init__(self):
        self.sentences, self.losses = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.sentences.append(data_batch["inputs"])
        assert len(data_batch["data_samples"]) == len(data_batch["inputs"])
        self.losses.append(outputs["loss"].item())


@pytest.mark.parametrize("clip", [1e9, 0.1])
def test_small_batches_make_the_steps_of_a_large_one(run_folder, clip):
    seen = Watcher(), Watcher()
    options = DESCENT | {"optim_wrapper.clip_grad.max_norm": clip}
    large = trained("large", 4, hooks=[seen[0]], **options)
    small = trained("small", 1, hooks=[seen[1]], **options, **{"train_cfg.global_batch_tokens": 256})
    assert small.train_loop.micro_batches == 4
    assert small.iter == large.iter == STEPS
    assert small.message_hub.get_scalar("train/lr").current() == large.message_hub.get_scalar("train/lr").current()
    for ours, theirs in zip(small.model.parameters(), large.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(torch.stack(seen[1].sentences), torch.stack(seen[0].sentences))
    assert seen[1].losses == pytest.approx(seen[0].losses, abs=1e-5)


@pytest.mark.parametrize("wrapper", ["OptimWrapper", "AutocastOptimWrapper"])
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(run_folder, wrapper):
    changes = {"optim_wrapper.type": wrapper, "optim_wrapper.accumulative_counts": 3}
    trained("unbroken", 2, **changes)
    trained("resumed", 2, resume="unbroken/iter_2.pth", **changes)
    unbroken, resumed = weights("unbroken/iter_4.pth"), weights("resumed/iter_4.pth")
    assert all(torch.equal(unbroken[key], resumed[key]) for key in unbroken)
    halfway = weights("unbroken/iter_2.pth")
    assert not all(torch.equal(unbroken[key], halfway[key]) for key in unbroken)


def test_two_processes_with_small_batches_make_the_steps_of_one_with_a_large_one(run_folder):
    changes = {"train_cfg.global_batch_tokens": 256, "log_level": "INFO", "experiment_name": None}
    config("two", 1, **DESCENT, **changes).dump("two.py")
    trained("one", 4, **DESCENT)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(TRAIN),
        "two.py",
    ]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(
        [*command, "--launcher", "pytorch"], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = "256 tokens a step = 2 processes x 1 sentences x 64 tokens x 2 micro-batches"
    assert said in done.stdout + done.stderr
    one, two = weights("one/iter_4.pth"), weights("two/iter_4.pth")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-6, rtol=1e-5)


def test_the_learning_rate_is_scaled_by_the_sentences_of_a_whole_step(run_folder):
    scaling = {"auto_scale_lr": dict(base_batch_size=8, enable=True), "train_cfg.max_iters": 1, "param_scheduler": None}
    runner = trained("scaled", 2, **scaling, **{"train_cfg.global_batch_tokens": 256})
    assert runner.optim_wrapper.get_lr()["lr"] == [pytest.approx(1e-2 * 4 / 8)]


@pytest.mark.parametrize(
    ("tokens", "world_size", "batch_size", "expected"),
    [(262144, 8, 4, 4), (262144, 8, 16, 1), (262144, 1, 16, 8), (262144, 512 // 4, 1, 1)],
)
def test_the_number_of_micro_batches_is_arithmetic(tokens, world_size, batch_size, expected):
    assert count_micro_batches(tokens, world_size, batch_size, length=2048) == expected
    assert expected * world_size * batch_size * 2048 == tokens


@pytest.mark.parametrize(
    ("tokens", "world_size", "batch_size", "message"),
    [
        (262144, 8, 6, "train_dataloader.batch_size to 4 or 8"),
        (262144, 8, 64, "train_dataloader.batch_size to 16"),
        (262144, 6, 1, "start 4 or 8 processes"),
        (262145, 8, 4, "such as 262144 or 264192"),
        (100, 1, 1, "such as 2048 or 4096"),
    ],
)
def test_what_does_not_divide_is_refused_with_the_nearest_numbers_that_do(tokens, world_size, batch_size, message):
    with pytest.raises(ValueError, match=message):
        count_micro_batches(tokens, world_size, batch_size, length=2048)


def test_two_different_numbers_of_batches_are_refused(run_folder):
    cfg = config("refused", 2, **{"train_cfg.global_batch_tokens": 256, "optim_wrapper.accumulative_counts": 3})
    with pytest.raises(ValueError, match="makes 2 batches a step"):
        Runner.from_cfg(cfg).train()
