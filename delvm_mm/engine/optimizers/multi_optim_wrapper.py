"""An optimizer for each part of a model, as adversarial training needs."""

from typing import Any

from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


# Under its name in 0.1 too.
@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name=["MultiOptimWrapperConstructor", "PartsOptimWrapperConstructor"])
class MultiOptimWrapperConstructor:
    """Build an ``OptimWrapperDict`` with one optimizer wrapper for each named part of the model.

    Example::

        optim_wrapper = dict(
            constructor='MultiOptimWrapperConstructor',
            vqgan=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4)),
            discriminator=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4)))

    Args:
        optim_wrapper_cfg: Name of a child of the model -> config of its optimizer wrapper, with a
            ``paramwise_cfg`` or a ``constructor`` of its own if need be.
        paramwise_cfg: It belongs into the parts.

    Raises:
        ValueError: If ``paramwise_cfg`` is given, or a value is no config of an optimizer wrapper.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict | None = None) -> None:
        if paramwise_cfg is not None:
            raise ValueError("MultiOptimWrapperConstructor: put paramwise_cfg into the parts of optim_wrapper")
        for name, cfg in optim_wrapper_cfg.items():
            if not isinstance(cfg, dict) or "optimizer" not in cfg:
                raise ValueError(
                    f"optim_wrapper.{name} is {cfg!r}, expected dict(type='OptimWrapper', optimizer=...) for a part of "
                    "the model of that name"
                )
        self.parts = optim_wrapper_cfg

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build the wrappers.

        Returns:
            A wrapper for each part, by its name.

        Raises:
            ValueError: If the model has no such part, or DDP is to average its gradients.
        """
        if isinstance(model, DistributedDataParallel):
            raise ValueError(
                "an optimizer for each part cannot be trained with under DDP, which averages the gradients of one: set "
                "model_wrapper_cfg = dict(type='delvm_mm.SelfAveragingModel')"
            )
        children = dict(unwrap_model(model).named_children())
        if unknown := set(self.parts) - set(children):
            raise ValueError(f"optim_wrapper names {sorted(unknown)}; the parts of the model are {sorted(children)}")
        return OptimWrapperDict(**{name: build_optim_wrapper(children[name], cfg) for name, cfg in self.parts.items()})
