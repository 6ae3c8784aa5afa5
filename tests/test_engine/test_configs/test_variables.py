"""Options that come too late: a variable of a config, from which others have been computed."""

import pytest

from delvm_mm.engine.configs.variables import computed_from
from delvm_mm.engine.launch import load_config
from helpers import ROOT

CONFIGS = ROOT / "configs"
END = "param_scheduler.1.end"


@pytest.mark.parametrize(
    ("config", "variable", "keys"),
    [
        ("mini/student.py", "max_iters", ["train_cfg.max_iters", "train_cfg.val_interval", END]),  # of its base
        ("zoo/teacher.py", "max_iters", ["train_cfg.max_iters", END]),
        ("vqgan/vqgan_f16_8192.py", "adam", ["optim_wrapper.vqgan", "optim_wrapper.discriminator"]),
        ("mini/student_kd.py", "no_such_variable", []),
    ],
)
def test_keys_that_were_computed_from_a_variable_are_found(config, variable, keys):
    found = computed_from(str(CONFIGS / config), variable)
    assert [key for key in found if key in keys] == keys and bool(keys) == bool(found)


@pytest.mark.parametrize("option", [{"max_iters": 3}, {"adam.lr": 3.0}, {"root": "elsewhere"}])
def test_an_option_without_effect_is_refused_and_what_has_one_is_named(tmp_path, option):
    path = tmp_path / "config.py"
    path.write_text(
        "max_iters = 9\n"
        "half = max_iters // 2\n"
        "root = 'here'\n"
        "adam = dict(type='AdamW', lr=1e-3)\n"
        "train_cfg = dict(max_iters=max_iters)\n"
        "optim_wrapper = dict(optimizer=adam)\n"
        "work_dir = f'{root}/run'\n"
        "param_scheduler = [dict(type='LinearLR', end=half), dict(type='ConstantLR', end=9)]\n"
    )
    named = dict(
        max_iters="train_cfg.max_iters, param_scheduler.0.end", adam="optim_wrapper.optimizer", root="work_dir"
    )[next(iter(option)).split(".")[0]]
    with pytest.raises(ValueError, match=rf"'{next(iter(option))}' is a variable of .*: {named} were computed from it"):
        load_config(str(path), option)


def test_a_value_that_a_derived_config_replaces_is_not_computed_any_more(tmp_path):
    (tmp_path / "base.py").write_text("steps = 9\ntrain_cfg = dict(max_iters=steps, val_interval=steps)\n")
    path = tmp_path / "derived.py"
    path.write_text("_base_ = 'base.py'\ntrain_cfg = dict(max_iters=5)\nload_from = f'iter_{_base_.steps}.pth'\n")
    assert computed_from(str(path), "steps") == ["train_cfg.val_interval", "load_from"]


def test_new_style_bases_are_read(tmp_path):
    (tmp_path / "base.py").write_text("steps = 9\n")
    path = tmp_path / "derived.py"
    path.write_text(
        "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
        "train_cfg = dict(max_iters=steps)\n"
    )
    assert computed_from(str(path), "steps") == ["train_cfg.max_iters"]


def test_variables_may_be_changed_together_with_what_was_computed_from_them(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("steps = 9\nnote = 'mine'\ntrain_cfg = dict(max_iters=steps)\n")
    cfg = load_config(str(path), {"steps": 3, "train_cfg.max_iters": 3, "note": "yours"})
    assert cfg.train_cfg.max_iters == 3 and cfg.note == "yours"
