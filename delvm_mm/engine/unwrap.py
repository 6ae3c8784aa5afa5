"""The model inside a runner's distributed wrapper, and the one to keep."""

from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def unwrap_model(model: nn.Module) -> nn.Module:
    """The module that DDP or another of MMEngine's wrappers holds, or the model itself."""
    # MMEngine's wrapper of a DeepSpeed engine is no module.
    return model.module if is_model_wrapper(model) or not isinstance(model, nn.Module) else model


def model_to_keep(runner: Runner) -> nn.Module:
    """The averaged model where an ``EMAHook`` keeps one, or the runner's."""
    averaged = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
    return averaged[0] if averaged else unwrap_model(runner.model)
