"""The guard in a runner: what it logs, counts, saves, and when it stops."""

import itertools
import math
import os
import socket

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from delvm_mm.engine import NonFiniteGuardHook
from delvm_mm.engine.launch import set_up_distributed, use_safe_checkpoints
from delvm_mm.registry import DATASETS, MODELS

NUMBERS = itertools.count()


@DATASETS.register_module()
class ScriptedSentences(Dataset):
    """Sentences of ones; those of the numbers in ``bad`` hold a nan."""

    def __init__(self, bad, length=100):
        self.bad, self.length = bad, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        inputs = torch.ones(4)
        if index in self.bad:
            inputs[2] = float("nan")
        info = dict(task="seg" if index % 2 else "pose", sentence=index, epoch=0)
        return dict(inputs=inputs, data_samples=BaseDataElement(metainfo=info))


@MODELS.register_module()
class ScriptedModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, inputs, data_samples=None, mode="loss"):
        error = (torch.stack(list(inputs)) @ self.weight - 1).square().mean()
        return dict(loss_ce=error, loss_kd=self.weight.square().mean())


def config(work_dir, bad, max_iters=6, accumulate=1, **guard):
    return Config(
        dict(
            default_scope="delvm_mm",
            work_dir=str(work_dir),
            experiment_name=f"guard_{next(NUMBERS)}",
            model=dict(type="ScriptedModel"),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=False),
                collate_fn=dict(type="pseudo_collate"),
                dataset=dict(type="ScriptedSentences", bad=bad),
            ),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=max_iters),
            optim_wrapper=dict(
                type="OptimWrapper",
                optimizer=dict(type="AdamW", lr=0.1),
                accumulative_counts=accumulate,
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[dict(type="LinearLR", start_factor=0.5, by_epoch=False, end=3)],
            custom_hooks=[dict(type="NonFiniteGuardHook", **guard)],
            default_hooks=dict(
                checkpoint=dict(type="SafeCheckpointHook", by_epoch=False, interval=1),
                logger=dict(type="LoggerHook", interval=1),
            ),
            log_processor=dict(by_epoch=False, window_size=1),
        )
    )


def train(work_dir, bad, resume=False, **options):
    use_safe_checkpoints()
    cfg = config(work_dir, bad, **options)
    cfg.resume = resume
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def log_of(work_dir):
    return "".join(path.read_text() for path in sorted(work_dir.glob("*/*.log")))


def steps_of(work_dir, number):
    return torch.load(work_dir / f"iter_{number}.pth", weights_only=False)["optimizer"]["state"][0]["step"].item()


@pytest.mark.filterwarnings("error:Seems like")  # of the scheduler, that it does not see the optimizer's steps
def test_a_skipped_step_is_logged_with_its_sentences_and_counted(tmp_path):
    runner = train(tmp_path, bad=[5], max_iters=4)  # in the third batch of two
    line = next(line for line in log_of(tmp_path).splitlines() if "skipped step" in line)
    assert "skipped step 3: loss nan loss_ce nan loss_kd" in line and "gradient norm nan" in line
    assert "sentences pose 4 (epoch 0), seg 5 (epoch 0)" in line
    assert "1 skipped in all, 1 in a row" in line
    assert runner.message_hub.get_info("skipped_steps") == dict(in_a_row=0, total=1)
    assert [steps_of(tmp_path, number) for number in (2, 3, 4)] == [2, 2, 3]
    assert runner.model.weight.isfinite().all()


def test_the_run_stops_after_so_many_in_a_row_with_the_batch_saved(tmp_path):
    with pytest.raises(FloatingPointError, match=r"3 steps in a row, 4 in all.*the last one step 6"):
        train(tmp_path, bad=[2, 7, 8, 10], max_iters=20, max_skipped=3)
    saved = torch.load(tmp_path / "non_finite_batch.pth", weights_only=True)
    assert saved["step"] == 6 and math.isnan(saved["losses"][0]["loss_ce"]) and math.isnan(saved["grad_norm"][0])
    batch = saved["batches"][0]
    assert batch["inputs"][0].isnan().tolist() == [False, False, True, False] and batch["inputs"][1].isfinite().all()
    assert [sample["sentence"] for sample in batch["data_samples"]] == [10, 11]


def test_all_batches_of_an_accumulated_step_are_saved(tmp_path):
    with pytest.raises(FloatingPointError, match="the last one step 2"):
        train(tmp_path, bad=[0], accumulate=2, max_skipped=1)
    saved = torch.load(tmp_path / "non_finite_batch.pth", weights_only=True)
    sentences = [[sample["sentence"] for sample in batch["data_samples"]] for batch in saved["batches"]]
    assert sentences == [[0, 1], [2, 3]] and math.isfinite(saved["losses"][1]["loss"])


def test_the_counts_survive_a_resume(tmp_path):
    train(tmp_path, bad=[0, 4, 6], max_iters=4)
    with pytest.raises(FloatingPointError, match="3 steps in a row, 4 in all"):
        train(tmp_path, bad=[8], max_iters=20, max_skipped=3, resume=True)
    with pytest.raises(FloatingPointError, match="1 steps in a row, 4 in all"):
        train(tmp_path / "total", bad=[0, 4, 8, 12], max_iters=20, max_total=4)


def test_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match="max_total is 0"):
        NonFiniteGuardHook(max_total=0)


def _train_one_of_two(rank, port, work_dir):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    init_default_scope("delvm_mm")
    # The sampler gives rank 1 the odd sentences: its loss is nan in steps 2 and 4, that of rank 0 never.
    cfg = config(work_dir, bad=[5, 13], max_iters=5, max_total=2)
    set_up_distributed(cfg, "pytorch")
    runner = Runner.from_cfg(cfg)
    try:
        runner.train()
    except FloatingPointError as error:
        torch.save((str(error), runner.model.module.weight.detach()), f"{work_dir}/end_of_{rank}")


def test_processes_skip_and_stop_together(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked, for the seconds that importing everything again would take.
    torch.multiprocessing.start_processes(_train_one_of_two, (port, str(tmp_path)), nprocs=2, start_method="fork")
    (message, weight), (other_message, other_weight) = (torch.load(tmp_path / f"end_of_{rank}") for rank in (0, 1))
    assert torch.equal(weight, other_weight) and weight.isfinite().all() and not torch.equal(weight, torch.ones(4))
    for text in (message, other_message):
        assert "2 in all" in text and "the last one step 4" in text and "non_finite_batch_rank1.pth" in text
    assert "process 1: sentences seg 5 (epoch 0), seg 7 (epoch 0); 1 skipped in all" in log_of(tmp_path)
    assert steps_of(tmp_path, 3) == 2
    assert not (tmp_path / "non_finite_batch_rank0.pth").exists()
    saved = torch.load(tmp_path / "non_finite_batch_rank1.pth", weights_only=True)
    assert [sample["sentence"] for sample in saved["batches"][0]["data_samples"]] == [13, 15]
