"""Whole runs on every device: resuming bit for bit, workers with pinned memory, two GPUs."""

import os
import subprocess
import sys

import pytest
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from delvm_mm.checkpoints.io import load_state_dict
from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.models.data_preprocessor import VisualSentencePreprocessor
from helpers import ROOT
from helpers.small_teacher_cache import LENGTH, write_store
from helpers.tools_in_process import run_here

TRAIN = ROOT / "tools" / "train.py"
STEPS = ["train_cfg.max_iters=6", "default_hooks.checkpoint.interval=3", "param_scheduler.0.end=6"]


@pytest.fixture
def deterministic():
    yield ["randomness.seed=0", "randomness.deterministic=True"]
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, False


@pytest.mark.parametrize("distilled", [False, True], ids=["alone", "distilled"])
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(device, run_folder, deterministic, distilled):
    if (device.type == "cuda") != torch.cuda.is_available():
        pytest.skip("MMEngine trains on the GPU where there is one")
    options = [*STEPS, *deterministic]
    if distilled:
        options += ["default_hooks.distillation.type=DistillationHook"]
        options += [f"default_hooks.distillation.teacher.{key}" for key in ("cfg=teacher.py", "checkpoint=teacher.pth")]
    for work_dir, more in (("whole", []), ("again", []), ("resumed", ["--resume", "whole/iter_3.pth"])):
        run_here([TRAIN, "student.py", "--work-dir", work_dir, *more, "--cfg-options", *options], log=work_dir)
    whole, *others = (load_state_dict(f"{work_dir}/iter_6.pth") for work_dir in ("whole", "again", "resumed"))
    start = load_state_dict("whole/iter_3.pth")
    assert any(not torch.equal(value, start[name]) for name, value in whole.items())
    for other in others:
        assert [name for name, value in whole.items() if not torch.equal(value, other[name])] == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_workers_with_pinned_memory_are_those_of_the_data_set(device, tmp_path, num_workers):
    sentences = VisualSentenceDataset(write_store(tmp_path / "store", 32), context=LENGTH, assembly="fixed")
    pinned = device.type == "cuda"
    loader = DataLoader(sentences, 4, num_workers=num_workers, pin_memory=pinned, collate_fn=pseudo_collate)
    preprocessor = VisualSentencePreprocessor().to(device)
    batches = [preprocessor(batch)["inputs"] for batch in loader]
    assert all(batch.device.type == device.type for batch in batches)
    expected = torch.stack([sentences[number]["inputs"] for number in range(len(sentences))])
    assert torch.equal(torch.cat(batches).cpu(), expected)


@pytest.mark.gpu(2)
def test_two_gpus_train_as_one_and_sharded_as_whole(run_folder):
    options = [*STEPS, "randomness.seed=0", "optim_wrapper.optimizer.eps=1e-3"]
    options += ["train_cfg.type=AccumulatingTrainLoop", "train_cfg.global_batch_tokens=512"]
    options += ["train_dataloader.sampler.type=DefaultSampler", "train_dataloader.sampler.shuffle=False"]
    runs = {
        "one": (1, []),
        "two": (2, []),
        "sharded": (2, ["model_wrapper_cfg.type=FullyShardedDeLVM"]),
    }
    for work_dir, (processes, more) in runs.items():
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command += [str(TRAIN), "student.py", "--work-dir", work_dir, "--launcher", "pytorch"]
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        done = subprocess.run(
            [*command, "--cfg-options", *options, *more], env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, *others = (load_state_dict(f"{work_dir}/iter_6.pth") for work_dir in runs)
    for other in others:
        for name, value in one.items():
            torch.testing.assert_close(other[name].cpu(), value.cpu(), rtol=1e-3, atol=1e-5, msg=name)
