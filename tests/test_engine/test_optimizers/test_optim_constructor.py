"""Few parameter groups, with the settings that MMEngine's own constructor gives each parameter."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from delvm_mm.engine.optimizers import optim_constructor
from delvm_mm.registry import MODELS
from helpers import ROOT
from helpers.tiny_run import TOKENIZER, model_config

SCHEDULE = ROOT / "configs" / "_base_" / "schedules" / "adamw_40k.py"


@pytest.fixture
def model():
    return MODELS.build(model_config(32, tokenizer=TOKENIZER))


@pytest.fixture
def schedule():
    return Config.fromfile(SCHEDULE).optim_wrapper


def settings(wrapper):
    return {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    }


def test_exactly_norms_and_biases_have_no_weight_decay(model, schedule):
    given = settings(build_optim_wrapper(model, schedule))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(given) == len(trained)
    free = {name for name, parameter in trained.items() if given[id(parameter)][1] == 0}
    # Weights of norms and biases are the vectors; everything else is a matrix.
    assert free == {name for name, parameter in trained.items() if parameter.ndim == 1}
    assert len(free) == 2 * (4 + 2) + 1, "two layers of four biases and two norms, and the last norm"
    assert {given[id(parameter)][1] for name, parameter in trained.items() if name not in free} == {0.1}


def test_two_groups_have_the_settings_that_mmengine_gives_one_group_a_parameter(model, schedule):
    wrapper = build_optim_wrapper(model, schedule)
    assert len(wrapper.optimizer.param_groups) == 2
    schedule.constructor = "DefaultOptimWrapperConstructor"
    separate = build_optim_wrapper(model, schedule)
    assert len(separate.optimizer.param_groups) == len(settings(wrapper))
    assert settings(wrapper) == settings(separate)


def test_learning_rates_of_their_own_keep_their_groups(model, schedule):
    schedule.paramwise_cfg.custom_keys["head"] = dict(lr_mult=0.5)
    groups = build_optim_wrapper(model, schedule).optimizer.param_groups
    assert sorted((group["lr"], group["weight_decay"]) for group in groups) == [
        (0.75e-4, 0.1),
        (1.5e-4, 0.0),
        (1.5e-4, 0.1),
    ]


def test_adamw_is_fused_where_torch_can_and_plain_where_it_cannot(model, schedule, monkeypatch):
    adamw = torch.optim.AdamW

    class OldAdamW(adamw):
        def __init__(self, params, fused=None, **kwargs):
            if fused:
                raise RuntimeError("`fused=True` requires all the params to be CUDA tensors")
            super().__init__(params, fused=fused, **kwargs)

    monkeypatch.setattr(torch.optim, "AdamW", OldAdamW)
    assert not build_optim_wrapper(model, schedule).optimizer.defaults["fused"]
    monkeypatch.setattr(torch.optim, "AdamW", adamw)
    fused = build_optim_wrapper(model, schedule).optimizer.defaults["fused"]
    try:
        adamw([nn.Parameter(torch.zeros(1))], fused=True)
    except RuntimeError:
        assert not fused
    else:
        assert fused


def test_groups_keep_the_order_of_parameters():
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(4)]
    decays = [0.1, 0.0, 0.1, 0.0]
    groups = [dict(params=[each], weight_decay=decay) for each, decay in zip(parameters, decays, strict=True)]
    merged = optim_constructor.merge_groups(groups)
    assert [[id(each) for each in group["params"]] for group in merged] == [
        [id(parameters[0]), id(parameters[2])],
        [id(parameters[1]), id(parameters[3])],
    ]
