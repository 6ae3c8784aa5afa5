"""Scores of a config's tasks at each validation: logged, ranked, and without a trace in the training."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.engine import FullyShardedDeLVM, TaskValLoop
from delvm_mm.engine.launch import load_config, use_safe_checkpoints
from delvm_mm.engine.task_val_loop import choose_tasks
from helpers import ROOT
from helpers.shrunk import shrink, write_tokenizer, write_what_is_read

pytestmark = pytest.mark.filterwarnings("ignore")
NUMBERS = itertools.count()
SCORES = {"val/seg/mIoU", "val/pose/PCK", "val/derain/restoration/PSNR"}
SWITCH = {"val_cfg.type": "TaskValLoop", "val_cfg.num_queries": 3}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a tokenizer and token stores for ``config``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        Config, "pretty_text", property(lambda cfg: "\n".join(f"{k} = {v!r}" for k, v in cfg.to_dict().items()))
    )
    use_safe_checkpoints()
    return write_tokenizer()


def config(fingerprint, work_dir, max_iters=2, **changes):
    """The quick start's teacher, made small; ``changes`` are as of ``--cfg-options``."""
    cfg = shrink(load_config(str(ROOT / "configs" / "mini" / "teacher.py")))
    write_what_is_read(cfg, fingerprint, Path("stores").absolute())
    del cfg.default_hooks.validation_panels
    for name in ("scenes", "clips", "codecs", "metrics"):  # MMEngine takes long to write them, and nothing reads them
        cfg.pop(name)
    cfg.merge_from_dict(
        {
            "work_dir": work_dir,
            "experiment_name": f"task_val_loop_{next(NUMBERS)}",
            "log_level": "ERROR",
            "train_cfg.max_iters": max_iters,
            "default_hooks.checkpoint.interval": 1,
            "default_hooks.checkpoint.max_keep_ckpts": -1,
            # What is drawn at random comes from the global generator.
            "model.sampler": dict(_delete_=True, temperature=1.0),
        }
        | changes
    )
    return cfg


def scalars(work_dir):
    """Everything that was logged, step by step."""
    lines = [line for path in sorted(Path(work_dir).rglob("scalars.json")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


class Draws(Hook):
    """What the global generator gives before each step."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(torch.rand(()).item())


def trained(cfg):
    draws, runner = Draws(), Runner.from_cfg(cfg)
    runner.register_hook(draws)
    runner.train()
    return runner, draws.seen


def test_one_line_puts_the_scores_of_all_tasks_into_log_and_tensorboard(place):
    backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
    off, on = config(place, "off"), config(place, "on", **SWITCH, **{"visualizer.vis_backends": backends})
    assert off.val_cfg.type == "ValLoop"
    trained(off)
    assert not any(key.split("/")[0] in ("seg", "pose", "derain") for record in scalars("off") for key in record)
    runner, _ = trained(on)
    assert {key for key in runner.message_hub.log_scalars if key.startswith("val/")} >= {*SCORES, "val/token/loss"}
    validations = [record for record in scalars("on") if "seg/mIoU" in record]
    assert [record["step"] for record in validations] == [1, 2]
    assert all(0 < record["derain/restoration/PSNR"] < 60 and 0 <= record["pose/PCK"] <= 1 for record in validations)
    assert not any("trivial" in key or "ceiling" in key for record in validations for key in record)
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (events,) = Path("on").rglob("events.out.tfevents*")
    read = tensorboard.EventAccumulator(str(events)).Reload()
    assert {key.removeprefix("val/") for key in SCORES} <= set(read.Tags()["scalars"]), read.Tags()


@pytest.mark.parametrize("name", ["seg/mIoU", "pose/PCK", "derain/restoration/PSNR", "derain/restoration/SSIM"])
def test_the_best_checkpoint_is_that_of_the_greatest_score(place, name):
    runner, _ = trained(config(place, "run", 3, **SWITCH, **{"default_hooks.checkpoint.save_best": name}))
    of_step = {record["step"]: record[name] for record in scalars("run") if name in record}
    assert len(of_step) == 3
    (best,) = Path("run").glob(f"best_{name.replace('/', '_')}_iter_*.pth")
    assert of_step[int(best.stem.rpartition("_")[2])] == max(of_step.values())
    assert runner.message_hub.get_info("best_score") == max(of_step.values())


def test_training_and_resuming_go_on_as_without(place):
    plain, plain_draws = trained(config(place, "plain", 4))
    scored, draws = trained(config(place, "scored", 4, **SWITCH))
    assert draws == plain_draws, "scoring the tasks moved the generator"
    trained(config(place, "resumed", 2, **SWITCH))
    resumed, _ = trained(config(place, "resumed", 4, **SWITCH, resume=True))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(scored.model.state_dict()[name], value), name
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_a_task_chooses_tokens_in_its_own_way(place):
    trained(config(place, "greedy", 1, **SWITCH, **{"model.sampler": dict(_delete_=True, temperature=0)}))
    mixed, _ = trained(config(place, "mixed", 1, **SWITCH, **{"tasks.derain.sampler": dict(temperature=0)}))
    name = "derain/restoration/PSNR"
    assert scalars("mixed")[-1][name] == scalars("greedy")[-1][name]
    assert mixed.model.sampler == dict(temperature=1.0), "the model's own is left as it was"


def test_queries_are_few_spread_out_and_always_the_same(place):
    runner = Runner.from_cfg(config(place, "run", **SWITCH))
    loop = runner.build_val_loop(dict(type="TaskValLoop", num_queries=3, tasks=["seg"]))
    assert isinstance(loop, TaskValLoop) and list(loop.tasks) == ["seg"]
    loader, evaluator = loop.tasks["seg"]
    numbers = [sample.sample_idx for batch in loader for sample in batch["data_samples"]]
    assert numbers == [3_000_000, 3_000_002, 3_000_003], "not spread over the 4 that there are"
    assert evaluator.prefix == "seg" and not evaluator.ceiling_metrics and not evaluator.trivial_metrics
    every = runner.build_val_loop(dict(type="TaskValLoop", num_queries=None))
    assert [len(loader.dataset) for loader, _ in every.tasks.values()] == [4, 4, 4]


def test_two_processes_share_the_queries_and_log_the_scores_of_one(place):
    """With a learning rate of 0 and greedy answers, scores depend on the queries alone."""
    still = {
        "optim_wrapper.optimizer.lr": 0.0,
        "param_scheduler": [],
        "model.sampler": dict(_delete_=True, temperature=0),
    }
    trained(config(place, "one", 1, **SWITCH, **still))
    cfg = config(place, "two", 1, **SWITCH, **still)
    cfg.dump("two.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [*command, str(ROOT / "tools" / "train.py"), "two.py", "--work-dir", "two"],
        check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    names = [key.removeprefix("val/") for key in SCORES]
    (one,), (two,) = ([record for record in scalars(folder) if names[0] in record] for folder in ("one", "two"))
    assert {name: two[name] for name in names} == pytest.approx({name: one[name] for name in names}, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_queries=0), "TaskValLoop.num_queries is 0, expected 1 or more, or None for all"),
        (dict(tasks=["depth"]), r"TaskValLoop.tasks: the config has no task \['depth'\], it has \['seg', 'pose', 'de"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused_before_the_first_step(place, options, message):
    runner = Runner.from_cfg(config(place, "run"))
    with pytest.raises(ValueError, match=message):
        runner.build_val_loop(dict(type="TaskValLoop", **options))


def test_configs_without_tasks_and_models_in_shards_are_refused(place):
    with pytest.raises(ValueError, match="the config defines no tasks; add tasks=dict"):
        choose_tasks(Config().get("tasks"), None, "the config")
    runner = Runner.from_cfg(config(place, "run"))
    runner.model = FullyShardedDeLVM.__new__(FullyShardedDeLVM)
    with pytest.raises(
        ValueError, match="TaskValLoop answers queries in each process, and of a FullyShardedDeLVM none"
    ):
        runner.build_val_loop(dict(type="TaskValLoop"))
