"""Optimizer steps that do nothing where the loss or the gradient is not finite.

The decision is made where the gradient is complete, just before the optimizer uses it, and from values that are the
same on all processes, so that all skip together.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.optim import Optimizer


@dataclass(frozen=True)
class SkippedStep:
    """Why a step was skipped.

    Attributes:
        grad_norm: Norm of the gradient; nan where a loss was not finite, on whatever process.
        own_loss: Whether a loss of this process was not finite.
        scale_search: Whether it was only float16's loss scale that was too large, which is normal.
    """

    grad_norm: float
    own_loss: bool
    scale_search: bool


class GuardedOptimWrapper(OptimWrapper):
    """Mixin for optimizer wrappers: steps whose loss or gradient is not finite are skipped.

    :func:`guard_steps` gives it to a wrapper that is built already. A skipped step leaves weights and optimizer state
    as they were; with gradient accumulation the whole accumulated step is dropped. How it is done:

    * A loss that is not finite makes its whole gradient nan, by a factor in the backward pass. The reduction of
      gradients brings that to all processes, without a message of its own.
    * The norm of the gradient, which clipping computes anyway, then says it all. Without clipping it is computed here.
    * A fused optimizer on CUDA is told by ``found_inf``, as a ``GradScaler`` would do, without waiting for the device.
      Elsewhere the norm is read, which on CUDA waits for the device (MMEngine itself does so, where it clips, to log
      the norm), and the gradients are taken away, which is for any PyTorch optimizer a step without parameters.
    """

    def start_guard(self, reduce: bool) -> None:
        """Begin to watch; see :func:`guard_steps`."""
        self._reduce = reduce
        self._forget()
        self._handles = (
            self.optimizer.register_step_pre_hook(self._before_optimizer),
            self.optimizer.register_step_post_hook(self._after_optimizer),
        )

    def stop_guard(self) -> None:
        """Leave the optimizer as it was."""
        for handle in self._handles:
            handle.remove()

    @property
    def stepped(self) -> bool:
        """Whether there was a step since the last :meth:`take_outcome`; while gradients accumulate there is none."""
        return self._loss_is_bad is not None and self.should_update()

    def take_outcome(self) -> SkippedStep | None:
        """What happened to the last step: None if it was made. Begins to watch the next one."""
        loss_is_bad, norm, is_bad = self._loss_is_bad, self._norm, self._is_bad
        self._forget()
        # A scaler that found an infinity does not call the optimizer.
        if is_bad is not None and not bool(is_bad):
            return None
        own_loss = loss_is_bad is not None and bool(loss_is_bad)
        search = False
        if (scaler := getattr(self, "loss_scaler", None)) is not None:
            any_loss = torch.tensor(float(own_loss))
            all_reduce(any_loss, op="max")
            search = not any_loss.item() and scaler.get_scale() > 1
        return SkippedStep(float("nan") if norm is None else float(norm), own_loss, search)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Backward pass, with a gradient of nan alone where the loss is not finite.

        Args:
            loss: A scalar.
            **kwargs: As for the wrapper's own.
        """
        bad = ~torch.isfinite(loss.detach())
        self._loss_is_bad = bad if self._loss_is_bad is None else self._loss_is_bad | bad
        super().backward(loss * torch.where(bad, float("nan"), 1.0), **kwargs)

    @property
    def clip_func(self) -> Callable[..., Tensor | None]:
        """MMEngine's function for clipping, whose norm is recorded; it hides the wrapper's attribute of this name."""
        return self._recording_clip

    def _recording_clip(self, *args: Any, **kwargs: Any) -> Tensor | None:
        norm = vars(self)["clip_func"](*args, **kwargs)
        self._norm = _whole(norm)
        return norm

    def _forget(self) -> None:
        self._loss_is_bad: Tensor | None = None
        self._norm: Tensor | None = None
        self._is_bad: Tensor | None = None

    def _before_optimizer(self, optimizer: Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            self._is_bad = torch.tensor(False)
            return
        given = getattr(optimizer, "found_inf", None)  # a GradScaler's, for a fused optimizer that unscales by itself
        if self._norm is None and given is None:
            # Nothing is clipped: this only measures.
            self._norm = _whole(torch.nn.utils.clip_grad_norm_(parameters, float("inf")))
        is_bad = ~torch.isfinite(self._norm) if self._norm is not None else (given > 0)
        if self._reduce:
            flag = is_bad.float()
            all_reduce(flag, op="max")
            is_bad = flag > 0
        if given is not None:
            is_bad = is_bad | (given > 0).to(is_bad.device)
        if _takes_found_inf(optimizer, parameters):
            optimizer.found_inf = is_bad.float()
        elif bool(is_bad):
            for parameter in parameters:
                parameter.grad = None
        self._is_bad = is_bad

    def _after_optimizer(self, optimizer: Optimizer, *_: Any) -> None:
        if not hasattr(self, "loss_scaler") and hasattr(optimizer, "found_inf"):
            del optimizer.found_inf


def guard_steps(wrapper: OptimWrapper, reduce: bool = False) -> GuardedOptimWrapper:
    """Make an optimizer wrapper skip what is not finite, until :func:`unguard_steps`.

    Its class becomes a subclass of its own, as PyTorch's ``fully_shard`` does with modules: the schedulers and hooks
    that hold the wrapper go on holding it, and what the class overrides goes on being called.

    Args:
        wrapper: MMEngine's, or one derived from it.
        reduce: Ask all processes before a step: where each holds a part of the gradient and the norm may be
            that part's. Not needed for DDP. Defaults to False.

    Returns:
        The same wrapper.
    """
    wrapper.__class__ = _guarded(type(wrapper))
    wrapper.start_guard(reduce)
    return wrapper


def unguard_steps(wrapper: GuardedOptimWrapper) -> None:
    """Make an optimizer wrapper what it was before :func:`guard_steps`."""
    wrapper.stop_guard()
    wrapper.__class__ = type(wrapper).__bases__[1]


@functools.cache
def _guarded(kind: type[OptimWrapper]) -> type[GuardedOptimWrapper]:
    return type(f"Guarded{kind.__name__}", (GuardedOptimWrapper, kind), {})


def _whole(norm: Tensor | None) -> Tensor | None:
    """The norm over all processes where FSDP's gradients are sharded."""
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def _takes_found_inf(optimizer: Optimizer, parameters: list[Tensor]) -> bool:
    """Whether the step can be called off on the device itself: fused, and not mixed with sharded parameters."""
    return (
        getattr(optimizer, "_step_supports_amp_scaling", False)
        and all(group.get("fused") for group in optimizer.param_groups)
        and parameters[0].device.type == "cuda"
        and not hasattr(parameters[0], "full_tensor")
    )
