"""An optimizer for each part of a model."""

import pytest
import torch
from mmengine.config import Config

from delvm_mm.commands import train as train_tool
from delvm_mm.engine import MultiOptimWrapperConstructor
from delvm_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

ADAM = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-3, betas=(0.5, 0.9)))
TWO_OPTIMIZERS = dict(constructor="MultiOptimWrapperConstructor", vqgan=ADAM, discriminator=ADAM)


def test_parts_have_an_optimizer_each_and_those_of_other_names_are_refused():
    model = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1) for name in ("vqgan", "discriminator")})
    build = OPTIM_WRAPPER_CONSTRUCTORS.build
    assert set(build(dict(type="PartsOptimWrapperConstructor", optim_wrapper_cfg=dict(vqgan=ADAM)))(model).keys()) == {
        "vqgan"
    }
    with pytest.raises(ValueError, match=r"names \['critic'\]; the parts of the model are.*discriminator"):
        build(dict(type="MultiOptimWrapperConstructor", optim_wrapper_cfg=dict(vqgan=ADAM, critic=ADAM)))(model)
    with pytest.raises(ValueError, match=r"optim_wrapper\.type is 'OptimWrapper', expected dict"):
        MultiOptimWrapperConstructor(dict(type="OptimWrapper", vqgan=ADAM))
    with pytest.raises(ValueError, match="put paramwise_cfg into the parts"):
        MultiOptimWrapperConstructor(dict(vqgan=ADAM), paramwise_cfg=dict(bias_lr_mult=2))
    wrapped = object.__new__(torch.nn.parallel.DistributedDataParallel)  # without processes to talk to
    with pytest.raises(ValueError, match=r"model_wrapper_cfg = dict\(type='delvm_mm\.SelfAveragingModel'\)"):
        MultiOptimWrapperConstructor(dict(vqgan=ADAM))(wrapped)


def test_amp_is_for_every_part():
    cfg = Config(dict(optim_wrapper=TWO_OPTIMIZERS))
    train_tool.use_autocast(cfg, "a.py")
    assert [cfg.optim_wrapper[part].type for part in ("vqgan", "discriminator")] == [
        "delvm_mm.AutocastOptimWrapper"
    ] * 2
    with pytest.raises(ValueError, match=r"a\.py has AutocastOptimWrapper; leave --amp out"):
        train_tool.use_autocast(cfg, "a.py")
