"""Validation metrics are logged as they are, whatever their names: ``LogProcessor``."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from delvm_mm.engine import LogProcessor
from delvm_mm.engine.launch import load_config

NUMBERS = iter(range(1000))


def logged(folder):
    """What the visualizer wrote, a record for each line."""
    (path,) = Path(folder).glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_logged_validation_loss_is_the_log_of_its_perplexity(run_folder):
    cfg = Config.fromfile("student.py")
    cfg.pop("log_processor")
    cfg.merge_from_dict(
        {
            "train_cfg": dict(max_iters=6, val_interval=2),
            "optim_wrapper.optimizer.lr": 0.1,
            "default_hooks.logger.log_metric_by_epoch": False,
            "custom_hooks": [],
            "log_processor": dict(type="LogProcessor", by_epoch=False),
            "val_dataloader": cfg.train_dataloader | dict(sampler=dict(type="DefaultSampler", shuffle=False)),
            "val_cfg": dict(),
            "val_evaluator": dict(type="TokenMetric"),
        }
    )
    cfg.work_dir, cfg.experiment_name = "run", f"log {next(NUMBERS)}"
    runner = Runner.from_cfg(cfg)
    runner.train()
    validations = [record for record in logged("run") if "token/loss" in record]
    assert [record["step"] for record in validations] == [2, 4, 6]
    for record in validations:
        for of in ("", "label/", "seg/", "pose/label/"):
            assert record[f"token/{of}loss"] == pytest.approx(math.log(record[f"token/{of}perplexity"]), rel=1e-6)
    assert len({round(record["token/loss"], 4) for record in validations}) == 3, "all validations are alike"


def processed(processor, names, mode, last=3):
    """What a processor makes of the values 1 to ``last`` of each name."""
    hub = MessageHub.get_instance(f"log processor {next(NUMBERS)}")
    for value in range(1, last + 1):
        for name in names:
            hub.update_scalar(f"{mode}/{name}", float(value))
    loop = SimpleNamespace(dataloader=[None] * last)
    runner = SimpleNamespace(message_hub=hub, iter=9, max_iters=10, _train_loop=None)
    runner.train_loop = runner.val_loop = runner.test_loop = loop
    if mode == "train":
        return processor.get_log_after_iter(runner, 9, mode)[0]
    return processor.get_log_after_epoch(runner, last - 1, mode)[0]


@pytest.mark.parametrize("mode", ["val", "test"])
def test_no_name_of_a_metric_or_a_task_is_smoothed(mode):
    names = ["token/loss", "bedtime/mIoU", "lossy/ceiling/restoration/PSNR", "loss", "time", "data_time"]
    shown = processed(LogProcessor(by_epoch=False), names, mode)
    assert {name: shown[name] for name in names} == dict.fromkeys(names[:4], 3.0) | {"time": 2.0, "data_time": 2.0}


def test_training_losses_are_means_over_the_window_and_metrics_where_they_are_asked_to_be():
    custom = [dict(data_src="token/loss", log_name="token/slow_loss", method_name="mean", window_size=3)]
    processor = LogProcessor(by_epoch=False, window_size=2, custom_cfg=custom)
    assert processed(processor, ["loss"], "train")["loss"] == 2.5
    shown = processed(processor, ["token/loss"], "val")
    assert shown["token/loss"] == 3.0 and shown["token/slow_loss"] == 2.0
    assert processed(processor, ["loss"], "train")["loss"] == 2.5, "validation has changed how training is logged"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "default_scope = 'mmpretrain'",
        "log_processor = dict(by_epoch=False)",
        "log_processor = dict(type='LogProcessor', by_epoch=False)",
        "default_scope = 'mmpretrain'\nlog_processor = dict(type='mmengine.LogProcessor')",
        "from mmengine.runner import LogProcessor\nlog_processor = dict(type=LogProcessor, window_size=4)",
    ],
)
def test_the_tools_log_exact_metrics_whatever_a_config_builds_on(tmp_path, text):
    path = tmp_path / "config.py"
    path.write_text(f"num_pairs = 3\n{text}\n")
    cfg = load_config(str(path))
    processor = Runner.build_log_processor(None, cfg.log_processor)
    assert isinstance(processor, LogProcessor)
    assert processor.window_size == (4 if "window_size" in text else 10)


def test_a_processor_of_ones_own_stays(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("log_processor = dict(type='OwnProcessor', window_size=4)\n")
    assert load_config(str(path)).log_processor == dict(type="OwnProcessor", window_size=4)
