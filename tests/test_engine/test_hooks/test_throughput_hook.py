"""Rates in the log of training against arithmetic."""

import itertools
import logging
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from delvm_mm.engine import AutocastOptimWrapper, ThroughputHook
from delvm_mm.engine.flops import MatrixPeak, training_flops_per_token
from delvm_mm.engine.hooks import throughput_hook
from delvm_mm.engine.optimizers import autocast_optim_wrapper
from delvm_mm.models import DeLVM

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2)
TEACHER = dict(embed_dims=64, num_layers=1, num_heads=2)


def model_of(arch):
    return DeLVM(
        tokenizer=None,
        backbone=dict(type="LLaMA", arch=arch, max_positions=64),
        embedding=dict(type="TokenEmbedding", num_embeddings=24),
        head=dict(type="NextTokenHead", num_embeddings=24),
    )


def runner_of(hooks=(), optim_wrapper=None):
    logged = {}
    return SimpleNamespace(
        iter=0,
        model=model_of(ARCH),
        hooks=list(hooks),
        optim_wrapper=optim_wrapper or SimpleNamespace(optim_context=lambda model: nullcontext()),
        logger=logging.getLogger("throughput"),
        message_hub=SimpleNamespace(update_scalar=logged.__setitem__),
        logged=logged,
    )


def trained(hook, runner, monkeypatch, steps=3, seconds=2.0):
    clock = itertools.count(step=seconds)
    monkeypatch.setattr(throughput_hook.time, "perf_counter", lambda: float(next(clock)))
    hook.before_train(runner)
    for step in range(steps):
        runner.iter = step
        hook.after_train_iter(runner, step, dict(inputs=torch.zeros(4, 64)))
    return runner.logged


@pytest.mark.parametrize("teacher", [None, TEACHER], ids=["alone", "with a teacher"])
def test_utilization_is_the_models_operations_over_those_of_the_device(monkeypatch, teacher):
    # 4 sentences of 64 tokens in 2 seconds, on a device of 1 GFLOP/s.
    hooks = [SimpleNamespace(), SimpleNamespace(teacher=teacher and model_of(teacher))]
    logged = trained(ThroughputHook(interval=3, peak_flops=1e9), runner_of(hooks), monkeypatch)
    assert logged["train/tokens_per_s"] == 4 * 64 / 2
    expected = 4 * 64 * training_flops_per_token(ARCH, 64, 24, teacher) / 2 / 1e9
    assert logged["train/mfu"] == pytest.approx(expected)


def test_all_processes_share_the_tokens_and_the_devices(monkeypatch):
    alone = trained(ThroughputHook(interval=3, peak_flops=1e9), runner_of(), monkeypatch)
    monkeypatch.setattr(throughput_hook, "get_world_size", lambda: 8)
    of_eight = trained(ThroughputHook(interval=3, peak_flops=1e9), runner_of(), monkeypatch)
    assert of_eight["train/tokens_per_s"] == 8 * alone["train/tokens_per_s"]
    assert of_eight["train/mfu"] == alone["train/mfu"]


def test_the_peak_is_measured_in_the_type_that_the_model_runs_in(monkeypatch, caplog):
    seen = []

    def measured(dtype, device):
        seen.append((dtype, device.type))
        return MatrixPeak(4e9, 1024, dtype)

    monkeypatch.setattr(throughput_hook, "measure_peak_flops", measured)
    monkeypatch.setattr(autocast_optim_wrapper, "has_bfloat16", lambda device: True)
    caplog.set_level(logging.INFO)
    half = AutocastOptimWrapper(optimizer=torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1))
    for wrapper in (None, half):
        logged = trained(ThroughputHook(interval=3, peak_flops="measure"), runner_of((), wrapper), monkeypatch)
        assert logged["train/mfu"] == pytest.approx(4 * 64 * training_flops_per_token(ARCH, 64, 24) / 2 / 4e9)
    assert seen == [(torch.float32, "cpu"), (torch.bfloat16, "cpu")]
    assert "measured peak: 0.004 TFLOP/s a process, products of 1024 x 1024 in bfloat16" in caplog.text


def test_without_a_peak_there_is_no_utilization(monkeypatch):
    assert set(trained(ThroughputHook(interval=3), runner_of(), monkeypatch)) == {"train/tokens_per_s"}


@pytest.mark.parametrize("peak", [0, -1.0, "measured"])
def test_a_peak_that_is_none_is_refused(peak):
    with pytest.raises(ValueError, match="peak_flops is"):
        ThroughputHook(peak_flops=peak)


def test_utilization_of_another_model_is_refused():
    runner = runner_of()
    runner.model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="utilization of a Linear"):
        ThroughputHook(peak_flops=1e12).before_train(runner)


def test_throughput_counts_the_tokens_of_all_sentences_since_the_last_value(monkeypatch):
    clock = iter([10.0, 12.0, 13.0])
    monkeypatch.setattr(throughput_hook.time, "perf_counter", lambda: next(clock))
    logged = {}
    runner = SimpleNamespace(iter=0, message_hub=SimpleNamespace(update_scalar=logged.__setitem__))
    hook = ThroughputHook(interval=3)
    for step in range(3):
        runner.iter = step
        hook.after_train_iter(runner, step, dict(inputs=torch.zeros(4, 512)))
    # The first step only starts the clock: two batches of 2048 tokens in 3 seconds.
    assert logged == {"train/tokens_per_s": 2 * 4 * 512 / 3}


def test_testing_logs_the_images_a_second_since_its_begin(monkeypatch):
    clock = iter([10.0, 14.0, 16.0])
    monkeypatch.setattr(throughput_hook.time, "perf_counter", lambda: next(clock))
    logged = {}
    runner = SimpleNamespace(message_hub=SimpleNamespace(update_scalar=logged.__setitem__))
    hook = ThroughputHook()
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, outputs=[None] * 8)
    assert logged == {"test/images_per_s": 8 / 4}
    hook.after_test_iter(runner, 1, outputs=[None] * 4)
    assert logged == {"test/images_per_s": 12 / 6}
