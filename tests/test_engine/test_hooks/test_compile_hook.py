"""Compiled training computes what eager training does and leaves the names of weights alone."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from delvm_mm.engine import CompileHook
from delvm_mm.registry import HOOKS


def losses_and_weights(work_dir, *hooks):
    cfg = Config.fromfile("student.py")
    cfg.merge_from_dict(
        {
            "work_dir": work_dir,
            "experiment_name": work_dir,
            "train_cfg.max_iters": 2,
            "default_hooks.checkpoint.interval": 2,
            "log_level": "ERROR",
        }
    )
    # Without the teacher there is one kind of layer; torch's own backend would write and compile C++ for it.
    cfg.custom_hooks = [*[hook for hook in cfg.custom_hooks if hook["type"] != "DistillationHook"], *hooks]
    runner = Runner.from_cfg(cfg)
    runner.train()
    history, _ = runner.message_hub.get_scalar("train/loss").data
    return history, torch.load(f"{work_dir}/iter_2.pth", weights_only=False)["state_dict"]


def test_losses_and_names_of_weights_are_those_of_eager_training(run_folder):
    compiled_calls = torch._dynamo.utils.counters["stats"]
    compiled_calls.clear()
    eager, weights = losses_and_weights("eager")
    assert not compiled_calls["unique_graphs"]
    compiled, compiled_weights = losses_and_weights("compiled", dict(type="CompileHook", backend="aot_eager"))
    assert compiled_calls["unique_graphs"] == 1, "the layers share a graph"
    assert compiled.tolist() == pytest.approx(eager.tolist(), abs=1e-5)
    assert compiled_weights.keys() == weights.keys()


def test_the_teacher_is_compiled_too_unless_told_not_to(run_folder):
    for teacher in (True, False):
        cfg = Config.fromfile("student.py")
        cfg.merge_from_dict(dict(work_dir="run", experiment_name=f"compile_teacher_{teacher}", log_level="ERROR"))
        runner = Runner.from_cfg(cfg)
        distillation = next(hook for hook in runner.hooks if hasattr(hook, "teacher"))
        distillation.before_train(runner)
        HOOKS.build(dict(type="CompileHook", teacher=teacher)).before_train(runner)
        for layer in distillation.teacher.backbone.layers:
            assert (layer._compiled_call_impl is not None) == teacher
        assert all(layer._compiled_call_impl is not None for layer in runner.model.backbone.layers)


def test_unknown_parts_are_refused():
    with pytest.raises(ValueError, match="'layers' or 'backbone'"):
        CompileHook(parts="head")
