"""The model inside a runner's distributed wrapper."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap_model(model: nn.Module) -> nn.Module:
    """The module that DDP or another of MMEngine's wrappers holds, or the model itself."""
    # MMEngine's wrapper of a DeepSpeed engine is no module.
    return model.module if is_model_wrapper(model) or not isinstance(model, nn.Module) else model
