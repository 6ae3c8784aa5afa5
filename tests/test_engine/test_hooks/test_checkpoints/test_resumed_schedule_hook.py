"""Resumed with another schedule, a run's learning rate is that of a run that had it from the start."""

import itertools
import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from delvm_mm.commands import train as train_tool
from delvm_mm.engine import ResumedScheduleHook

NUMBERS = itertools.count()
WARM = dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=3)


def train(monkeypatch, work_dir, steps, *options, schedule):
    """Train ``student.py`` by the tool; the learning rate of each step, and the log."""
    cfg = Config.fromfile("student.py")
    cfg.param_scheduler, cfg.custom_hooks = schedule, []
    cfg.optim_wrapper.pop("clip_grad")
    cfg.merge_from_dict({"train_cfg.max_iters": steps, "experiment_name": f"resumed_schedule_{next(NUMBERS)}"})
    cfg.dump("scheduled.py")
    monkeypatch.setattr(sys, "argv", ["train.py", "scheduled.py", "--work-dir", work_dir, *options])
    train_tool.main()
    # Runs that begin in one second share a folder of logs.
    lines = [line for path in Path(work_dir).glob("*/vis_data/scalars.json") for line in path.read_text().splitlines()]
    log = "".join(path.read_text() for path in Path(work_dir).glob("*/*.log"))
    return {record["step"]: record["lr"] for record in map(json.loads, lines)}, log


def cosine(end, **changes):
    return [WARM, dict(type="CosineAnnealingLR", by_epoch=False, begin=3, end=end, eta_min=1e-4) | changes]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (cosine(4), cosine(8), "CosineAnnealingLR.end 4 -> 8"),
        # Without an end it is the run's.
        ([*cosine(4)[:1], dict(type="PolyLR", by_epoch=False, begin=3)], cosine(8), "in place of another kind"),
        ([dict(type="PolyLR", by_epoch=False)], [dict(type="PolyLR", by_epoch=False)], "PolyLR.end 4 -> 8"),
        ([], cosine(8), "2 schedulers in place of 0"),
        (cosine(8), cosine(8)[:1], "1 schedulers in place of 2"),
    ],
)
def test_a_schedule_that_changed_is_the_configs(run_folder, monkeypatch, before, after, said):
    train(monkeypatch, "run", 4, schedule=before)
    resumed, log = train(monkeypatch, "run", 8, "--resume", schedule=after)
    unbroken, _ = train(monkeypatch, "unbroken", 8, schedule=after)
    resumed, unbroken = ([rates[step] for step in (5, 6, 7, 8)] for rates in (resumed, unbroken))
    assert resumed == unbroken, "to the last digit"
    assert len(set(resumed)) > 1 or len(after) == 1
    (line,) = [line for line in log.splitlines() if "other settings than the checkpoint's" in line]
    assert "resuming at step 4 with" in line and said in line


def test_what_did_not_change_is_resumed_bit_for_bit_without_a_word(run_folder, monkeypatch):
    train(monkeypatch, "run", 4, schedule=cosine(8))
    _, log = train(monkeypatch, "run", 8, "--resume", schedule=cosine(8))
    train(monkeypatch, "unbroken", 8, schedule=cosine(8))
    assert "other settings" not in log
    resumed, unbroken = (torch.load(f"{name}/iter_8.pth", weights_only=False) for name in ("run", "unbroken"))
    for tensors in (lambda saved: saved["state_dict"], lambda saved: saved["optimizer"]["state"]):
        torch.testing.assert_close(tensors(resumed), tensors(unbroken), rtol=0, atol=0)
    for others in (lambda saved: saved["optimizer"]["param_groups"], lambda saved: saved["param_schedulers"]):
        assert others(resumed) == others(unbroken)


def test_settings_of_the_optimizer_are_the_configs(run_folder, monkeypatch):
    train(monkeypatch, "run", 4, schedule=cosine(8))
    options = ["optim_wrapper.optimizer.weight_decay=0.3", "optim_wrapper.optimizer.lr=0.02"]
    resumed, log = train(monkeypatch, "run", 8, "--resume", "--cfg-options", *options, schedule=cosine(8))
    unbroken, _ = train(monkeypatch, "unbroken", 8, "--cfg-options", *options, schedule=cosine(8))
    assert [resumed[step] for step in (5, 6, 7, 8)] == [unbroken[step] for step in (5, 6, 7, 8)]
    assert "weight_decay 0.01 -> 0.3" in log and "base_values 0.01 -> 0.02" in log
    groups = torch.load("run/iter_8.pth", weights_only=False)["optimizer"]["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.3}


class TwoParts(BaseModel):
    """Two parts with an optimizer each."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, inputs, mode="loss"):
        return dict(loss=(self.left(inputs) + self.right(inputs)).square().mean())

    def train_step(self, data, optim_wrapper):
        self(data)["loss"].backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
            wrapper.zero_grad()
        return {}


def run_two_parts(work_dir, schedules, epochs, batch_size=2, resume=None):
    """Learning rates of both optimizers after a run of epochs over 8 samples."""
    sgd = dict(optimizer=dict(type="SGD", lr=0.1))
    cfg = dict(
        optim_wrapper=dict(constructor="MultiOptimWrapperConstructor", left=sgd, right=sgd),
        param_scheduler=schedules,
        train_dataloader=dict(
            batch_size=batch_size,
            dataset=list(torch.ones(8, 2)),
            sampler=dict(type="DefaultSampler", shuffle=False),
            collate_fn=dict(type="default_collate"),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1)),
        default_scope="delvm_mm",
        log_level="ERROR",
        experiment_name=f"two_parts_{next(NUMBERS)}",
    )
    runner = Runner(model=TwoParts(), work_dir=work_dir, cfg=Config(cfg), resume=bool(resume), load_from=resume, **cfg)
    runner.register_hook(ResumedScheduleHook())
    runner.train()
    return {name: rate[0] for name, rate in runner.optim_wrapper.get_lr().items()}


def by_epoch(end, **changes):
    return dict(type="LinearLR", start_factor=1.0, end_factor=0.1, begin=0, end=end, by_epoch=True) | changes


@pytest.mark.parametrize("batch_size", [2, 4])
def test_each_optimizer_has_its_own_schedule_whatever_the_batch_size(tmp_path, monkeypatch, batch_size):
    monkeypatch.chdir(tmp_path)
    short = dict(left=[by_epoch(2, convert_to_iter_based=True)], right=[by_epoch(6)])
    long = dict(left=[by_epoch(6, convert_to_iter_based=True)], right=[by_epoch(6)])
    run_two_parts("run", short, 2)
    resumed = run_two_parts("run", long, 4, batch_size, "run/epoch_2.pth")
    assert resumed == run_two_parts("unbroken", long, 4, batch_size)
    assert resumed["left.lr"] != resumed["right.lr"]


def test_a_schedule_that_depends_on_validations_is_refused_where_it_changed(run_folder, monkeypatch, capsys):
    plateau = dict(type="ReduceOnPlateauLR", monitor="loss", by_epoch=True, patience=3)
    train(monkeypatch, "run", 4, schedule=[plateau])
    train(monkeypatch, "run", 5, "--resume", schedule=[plateau])
    with pytest.raises(SystemExit):
        train(monkeypatch, "run", 8, "--resume", schedule=[plateau | dict(patience=5)])
    assert "patience 3 -> 5), and where ReduceOnPlateauLR would stand" in capsys.readouterr().err
