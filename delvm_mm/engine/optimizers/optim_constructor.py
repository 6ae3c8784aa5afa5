"""Parameter groups for AdamW: few of them, so that a step is a few large operations."""

from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from delvm_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, with the parameters that have equal settings in one group.

    ``paramwise_cfg`` is read as by :class:`mmengine.optim.DefaultOptimWrapperConstructor`, which makes a group of every
    parameter; a step of AdamW then runs over hundreds of groups one by one. ``optimizer.fused=True`` is taken back,
    with a line in the log, where this torch has no fused step for the device of the parameters.

    Args:
        optim_wrapper_cfg: With ``optimizer``.
        paramwise_cfg: Multipliers of learning rate and weight decay.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper for a model."""
        if self.optimizer_cfg.get("fused"):
            device = next(parameter.device for parameter in model.parameters() if parameter.requires_grad)
            if not _has_fused_adamw(device):
                print_log(f"torch {torch.__version__} has no fused AdamW on {device.type}; not fused", "current")
                self.optimizer_cfg = {key: value for key, value in self.optimizer_cfg.items() if key != "fused"}
        return super().__call__(model)

    def add_params(self, params: list[dict], module: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Add all parameters of a module; called for its children in turn, and once for the whole model."""
        super().add_params(params, module, *args, **kwargs)
        if not args and not kwargs:
            defaults = dict(lr=self.base_lr, weight_decay=self.base_wd)
            defaults = {key: value for key, value in defaults.items() if value is not None}
            params[:] = merge_groups([defaults | group for group in params])


def merge_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the parameters of groups with equal settings together, in the order in which the settings first come."""
    merged: dict[tuple, dict[str, Any]] = {}
    for group in groups:
        # MMEngine leaves the multipliers beside what they made.
        settings = {key: value for key, value in group.items() if key not in ("params", "lr_mult", "decay_mult")}
        key = tuple(sorted((name, repr(value)) for name, value in settings.items()))
        merged.setdefault(key, dict(params=[], **settings))["params"].extend(group["params"])
    return list(merged.values())


def _has_fused_adamw(device: torch.device) -> bool:
    # Which devices have it differs between versions, and only an optimizer that is built says so.
    try:
        torch.optim.AdamW([nn.Parameter(torch.zeros(1, device=device))], fused=True)
    except RuntimeError:
        return False
    return True
