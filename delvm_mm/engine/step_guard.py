"""Optimizer steps that do nothing where the loss or the gradient is not finite.

The decision is made where the gradient is complete, just before the optimizer uses it, and from values that are the
same on all processes, so that all skip together.
"""

import functools
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


class StepGuard:
    """Make the steps of an optimizer wrapper skip what is not finite.

    A skipped step leaves weights and optimizer state as they were; with gradient accumulation the whole accumulated
    step is dropped. How it is done:

    * A loss that is not finite makes its whole gradient nan, by a factor in the backward pass. The reduction of
      gradients brings that to all processes, without a message of its own.
    * The norm of the gradient, which clipping computes anyway, then says it all. Without clipping it is computed here.
    * A fused optimizer on CUDA is told by ``found_inf``, as a ``GradScaler`` would do, without waiting for the device.
      Elsewhere the norm is read, which on CUDA waits for the device (MMEngine itself does so, where it clips, to log
      the norm), and the gradients are taken away, which is for any PyTorch optimizer a step without parameters.

    Args:
        wrapper: Its ``backward``, ``step`` and ``clip_func`` are replaced until :meth:`remove`.
        reduce: Ask all processes before a step: where each holds a part of the gradient and the norm may be
            that part's. Not needed for DDP. Defaults to False.
    """

    def __init__(self, wrapper: OptimWrapper, reduce: bool = False) -> None:
        self.wrapper = wrapper
        self.reduce = reduce
        self._scaler = getattr(wrapper, "loss_scaler", None)
        self._loss_is_bad: Tensor | None = None
        self._norm: Tensor | None = None
        self._is_bad: Tensor | None = None
        self._stepped = False
        self._backward, self._step = wrapper.backward, wrapper.step
        wrapper.backward = self._guarded_backward
        # MMEngine's schedulers leave a mark on the step and warn where it is gone.
        wrapper.step = functools.wraps(self._step)(functools.partial(StepGuard._guarded_step, self))
        self._clip = getattr(wrapper, "clip_func", None)
        if self._clip is not None:
            wrapper.clip_func = self._recording_clip
        self._handles = (
            wrapper.optimizer.register_step_pre_hook(self._before_optimizer),
            wrapper.optimizer.register_step_post_hook(self._after_optimizer),
        )

    def remove(self) -> None:
        """Leave the wrapper as it was."""
        self.wrapper.backward, self.wrapper.step = self._backward, self._step
        if self._clip is not None:
            self.wrapper.clip_func = self._clip
        for handle in self._handles:
            handle.remove()

    @property
    def stepped(self) -> bool:
        """Whether there was a step since the last :meth:`take`; while gradients accumulate there is none."""
        return self._stepped

    def take(self) -> SkippedStep | None:
        """What happened to the last step: None if it was made. Begins to watch the next one."""
        loss_is_bad, norm, is_bad = self._loss_is_bad, self._norm, self._is_bad
        self._loss_is_bad, self._norm, self._is_bad, self._stepped = None, None, None, False
        # A scaler that found an infinity does not call the optimizer.
        if is_bad is not None and not bool(is_bad):
            return None
        own_loss = loss_is_bad is not None and bool(loss_is_bad)
        search = False
        if self._scaler is not None:
            any_loss = torch.tensor(float(own_loss))
            all_reduce(any_loss, op="max")
            search = not any_loss.item() and self._scaler.get_scale() > 1
        return SkippedStep(float("nan") if norm is None else float(norm), own_loss, search)

    def _guarded_backward(self, loss: Tensor, **kwargs: Any) -> None:
        bad = ~torch.isfinite(loss.detach())
        self._loss_is_bad = bad if self._loss_is_bad is None else self._loss_is_bad | bad
        self._backward(loss * torch.where(bad, float("nan"), 1.0), **kwargs)

    def _recording_clip(self, *args: Any, **kwargs: Any) -> Tensor | None:
        norm = self._clip(*args, **kwargs)
        self._norm = _whole(norm)
        return norm

    def _guarded_step(self, **kwargs: Any) -> None:
        self._norm, self._is_bad, self._stepped = None, None, True
        self._step(**kwargs)

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
        if self.reduce:
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
        if self._scaler is None and hasattr(optimizer, "found_inf"):
            del optimizer.found_inf


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
