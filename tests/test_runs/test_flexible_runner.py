"""MMEngine's ``FlexibleRunner``, which its strategies such as DeepSpeed's need, trains from a config like any other."""

import json
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from delvm_mm.commands import train as train_tool


def train(monkeypatch, work_dir, **changes):
    cfg = Config.fromfile("student.py")
    cfg.merge_from_dict(
        dict(
            runner_type="FlexibleRunner",
            strategy=dict(type="SingleDeviceStrategy"),
            env_cfg=dict(mp_cfg=dict(mp_start_method="fork")),
            experiment_name=work_dir,
            log_level="ERROR",
        )
        | changes
    )
    cfg.dump("flexible.py")
    monkeypatch.setattr(sys, "argv", ["train.py", "flexible.py", "--work-dir", work_dir])
    train_tool.main()


def test_a_strategy_trains_with_our_hooks(run_folder, monkeypatch):
    train(monkeypatch, "flexible", **{"train_cfg.max_iters": 2})
    (path,) = Path("flexible").glob("*/vis_data/scalars.json")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2]
    assert all(record["loss"] == pytest.approx(record["loss_ce"] + record["loss_kd"]) for record in records)


def test_our_loop_says_which_one_to_use_instead(run_folder, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        train(monkeypatch, "refused", **{"train_cfg.type": "AccumulatingTrainLoop"})
    assert "use train_cfg=dict(type='IterBasedTrainLoop', ...)" in capsys.readouterr().err
