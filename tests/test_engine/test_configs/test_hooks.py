"""Hooks of configs by name."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import nn

from delvm_mm.engine.configs.hooks import MMENGINE_HOOKS, hooks_of
from delvm_mm.engine.launch import load_config
from delvm_mm.registry import type_name

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs"
RUNTIME = CONFIGS / "_base_" / "default_runtime.py"


def derived(tmp_path, text, options=None, base=RUNTIME):
    path = tmp_path / "derived.py"
    path.write_text(f"_base_ = {str(base)!r}\n{text}\n")
    return load_config(str(path), options)


def types(cfg):
    return [type_name(hook) for hook in hooks_of(cfg)]


def test_an_option_changes_one_hook_by_its_name():
    path = str(CONFIGS / "mini" / "student_kd.py")
    cfg = load_config(path, {"default_hooks.distillation.teacher.checkpoint": "other.pth"})
    teacher = load_config(path).default_hooks.distillation.teacher
    assert cfg.default_hooks.distillation.teacher == dict(teacher, checkpoint="other.pth")


def test_a_hook_that_is_none_is_left_out(tmp_path):
    plain = types(derived(tmp_path, ""))
    assert "MemoryHook" in plain
    for cfg in (
        derived(tmp_path, "default_hooks = dict(memory=None)"),
        derived(tmp_path, "", {"default_hooks.memory": None}),
    ):
        assert types(cfg) == [name for name in plain if name != "MemoryHook"]


def test_a_hook_of_a_config_from_before_names_replaces_the_named_one(tmp_path):
    cfg = derived(
        tmp_path,
        "custom_hooks = [*_base_.custom_hooks, dict(type='delvm_mm.NonFiniteGuardHook', max_skipped=3),"
        " dict(type='EMAHook')]",
    )
    assert types(cfg).count("NonFiniteGuardHook") == 1
    assert cfg.custom_hooks[0].max_skipped == 3
    assert {"EMAHook", "ThroughputHook"} <= set(types(cfg))


def test_a_misspelled_name_is_an_error_that_names_the_hook(tmp_path):
    with pytest.raises(ValueError, match=r"derived\.py: default_hooks has no hook 'gaurd'; did you mean 'guard'"):
        derived(tmp_path, "", {"default_hooks.gaurd.max_skipped": 3})


def test_no_config_lists_hooks_and_all_named_ones_have_a_type():
    seen = set()
    for path in CONFIGS.rglob("*.py"):
        if path.name.startswith("_") or "_base_" in path.parts:
            continue
        cfg = load_config(str(path))
        assert not cfg.get("custom_hooks"), path
        seen |= set(cfg.get("default_hooks", {}))
    assert seen - set(MMENGINE_HOOKS) >= {"guard", "throughput", "distillation", "validation_panels", "save_tokenizer"}


def test_mmengine_runs_named_hooks_in_the_order_of_their_priorities(tmp_path):
    """Before hooks had names they were a list after MMEngine's own; equal priorities keep that order."""
    cfg = load_config(str(CONFIGS / "_base_" / "default_runtime.py"))
    del cfg.default_hooks.checkpoint
    runner = Runner(
        **{key: cfg[key] for key in ("default_hooks", "custom_hooks", "default_scope")},
        model=nn.Linear(1, 1),
        work_dir=str(tmp_path),
        experiment_name="named_hooks",
    )
    order = [type(hook).__name__ for hook in runner.hooks]
    assert order.index("RuntimeInfoHook") < order.index("TokenizerCheckHook") < order.index("IterTimerHook")
    ours = ["NonFiniteGuardHook", "ThroughputHook", "MemoryHook", "TaskBalanceHook"]
    assert [name for name in order if name in ours] == ours
    assert max(map(order.index, ours)) < order.index("LoggerHook"), "what they log is written at the same step"


def test_documents_name_hooks_that_there_are():
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    section = text[text.index("## Hooks") : text.index("## Memory")]
    named = set()
    for path in CONFIGS.rglob("*.py"):
        if not path.name.startswith("_") and "_base_" not in path.parts:
            named |= set(Config.fromfile(path).get("default_hooks", {}))
    for name in named - set(MMENGINE_HOOKS):
        assert f"`{name}`" in section


CHECKPOINT = dict(type="CheckpointHook")


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (CHECKPOINT | dict(intervall=3), "CheckpointHook has no argument 'intervall'; did you mean 'interval'?"),
        (dict(type="mmengine.CheckpointHook", max_keep=3), "CheckpointHook has no argument 'max_keep'"),
        (dict(type="SafeCheckpointHook", save_bestt="a"), "did you mean 'save_best'"),
        (dict(type="EMAHook", momentun=0.1), "EMAHook has no argument 'momentun'; did you mean 'momentum'?"),
        (dict(type="EMAHook", ema_type="StochasticWeightAverage", momentum=0.1), "EMAHook has no argument 'momentum'"),
        (dict(type="LoggerHook", intreval=1), "LoggerHook has no argument 'intreval'"),
        (dict(type="ParamSchedulerHook", interval=1), "ParamSchedulerHook has no argument 'interval'; it has none"),
        (dict(type="MemoryHook", intervals=1), "MemoryHook has no argument 'intervals'; did you mean 'interval'?"),
        (dict(type="TokenizerCheckHook", strict=1), "TokenizerCheckHook has no argument 'strict'"),
        (dict(type=EMAHook, gamma=1), "EMAHook has no argument 'gamma'"),
    ],
)
def test_a_misspelled_argument_of_any_hook_is_refused_when_the_config_is_read(tmp_path, hook, message):
    (tmp_path / "derived.py").write_text("default_scope = 'delvm_mm'\n")
    for options in ({"custom_hooks": [hook]}, {"default_hooks.one": hook}):
        with pytest.raises(ValueError, match=re.escape(message)):
            load_config(str(tmp_path / "derived.py"), options)


class TakesAny(Hook):
    def __init__(self, **kwargs):
        self.kwargs = kwargs


def test_hooks_that_take_any_argument_may_have_them(tmp_path):
    (tmp_path / "derived.py").write_text("default_scope = 'delvm_mm'\n")
    ema = dict(type="EMAHook", momentum=0.1, update_buffers=True, begin_iter=3, priority="LOW")
    load_config(str(tmp_path / "derived.py"), {"custom_hooks": [dict(type=TakesAny, anything=1), ema]})
