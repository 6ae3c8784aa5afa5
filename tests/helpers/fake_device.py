"""A GPU that is not there: tensors on 'cuda' without values, and a record of where the host waits for the device.

PyTorch's ``FakeTensorMode`` knows shapes, types and devices of tensors and computes nothing; an operator that mixes
devices raises ``FakeTensorDeviceMismatchError``. A wait for the device would end there, for want of a value. Here it is
written down instead, and the host goes on with zeros, so that a path shows all of its waits.
"""

import contextlib
import copy
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import delvm_mm
from delvm_mm.generation import TokenSampler
from delvm_mm.models import VQGAN
from delvm_mm.models.backbones.fused import _GatedLinear, _RMSNorm, _Rotate
from delvm_mm.models.losses.chunked_loss import _ChunkedLosses

PACKAGE = Path(delvm_mm.__file__).parent
DEVICE = "cuda"
GIBIBYTES = 2**30
# FakeTensorMode lets PyTorch believe in one GPU, for which its gradient engine would start a thread at its first use;
# after that no forked process could compute gradients. It counts devices once: here, while there is none.
torch.ones(1, requires_grad=True).backward()


class Waits(TorchDispatchMode):
    """Counts waits by their place, such as ``generation/engine.py:_prompt_keys``.

    ``truth`` is what a wait for a boolean finds; numbers are zero. Waits are reading a value, copies to the host, and
    copies to the device without ``non_blocking``, after which PyTorch synchronizes the stream.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[str] = Counter()
        self.truth = True
        self.tape = Tape()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        # In inference mode the operators "item" and "to" come as they are, elsewhere as what they are made of.
        if name in ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero"):
            if args[0].device.type == DEVICE:
                self._note()
            return self._value(name, args[0])
        if name in ("_to_copy", "to", "copy_"):
            given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
            source, target = _from_and_to(given)
            if source.type != target.type and not (given.get("non_blocking") and target.type == DEVICE):
                self._note()
            if name == "to" and source.type != target.type:  # a single number would be moved indeed
                return torch.empty(args[0].shape, dtype=given.get("dtype") or args[0].dtype, device=target)
        return func(*args, **kwargs)

    def _value(self, name: str, tensor: Tensor) -> Any:
        if name == "nonzero":
            return tensor.new_zeros((tensor.numel(), tensor.dim()), dtype=torch.int64)
        if name in ("equal", "is_nonzero") or tensor.dtype == torch.bool:
            return self.truth
        return 0.0 if tensor.is_floating_point() else 0

    def _note(self) -> None:
        frame, last = sys._getframe(2), "elsewhere"
        while frame is not None:
            path, function = Path(frame.f_code.co_filename), frame.f_code.co_name
            if PACKAGE in path.parents and not function.startswith("<"):
                self.places[f"{path.relative_to(PACKAGE).as_posix()}:{function}"] += 1
                return
            if "torch" not in path.parts and last == "elsewhere":
                last = f"{path.name}:{function}"
            frame = frame.f_back
        self.places[last] += 1


def _from_and_to(given: dict[str, Any]) -> tuple[torch.device, torch.device]:
    if "src" in given:  # copy_
        return given["src"].device, given["self"].device
    source = given["self"].device
    return source, given["other"].device if "other" in given else torch.device(given.get("device") or source)


class _Host(TorchFunctionMode):
    """What only tensors with values can do; the waits for them are counted when they are copied to the host."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if args and isinstance(args[0], FakeTensor):
            if func in (Tensor.numpy, Tensor.__array__):
                if args[0].device.type != "cpu":
                    raise TypeError(f"can't convert {args[0].device} tensor to numpy")
                return np.zeros(tuple(args[0].shape), NUMPY_TYPES[args[0].dtype])
            if func is Tensor.data_ptr:
                return id(args[0])
            if func is Tensor.tolist:
                return np.zeros(tuple(args[0].shape), NUMPY_TYPES[args[0].cpu().dtype]).tolist()
        return func(*args, **(kwargs or {}))


NUMPY_TYPES = {
    getattr(torch, name): np.dtype(name)
    for name in ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")
}


class Tape:
    """The package's own gradients. PyTorch's engine wants a driver, so each function is run backward by itself."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, Any, tuple[Tensor, ...]]] = []

    def apply(self, function: Any, *args: Any) -> Any:
        """Run a function forward."""
        context = _Context(tuple(isinstance(value, Tensor) and value.is_floating_point() for value in args))
        with torch.no_grad():
            out = function.forward(context, *args)
        self.done.append((function, context, out if isinstance(out, tuple) else (out,)))
        return out

    def backward(self, equally: bool = True) -> None:
        """Run all functions backward; of several outputs, with one gradient for all, or with one each."""
        for function, context, outs in reversed(self.done):
            gradients = [torch.ones_like(out) for out in outs]
            with torch.no_grad():
                found = function.backward(context, *(gradients[:1] * len(outs) if equally else gradients))
            found = [value for value in (found if isinstance(found, tuple) else (found,)) if value is not None]
            assert found and all(value.device.type == DEVICE for value in found)
        self.done.clear()


class _Context:
    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self.saved_tensors: tuple[Tensor, ...] = ()

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors


class _Stream:
    """Of a device, or a graph, that does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def wait_stream(self, other: "_Stream") -> None:
        pass

    def replay(self) -> None:
        pass


def _nothing(*_: Any, **__: Any) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext()


@contextlib.contextmanager
def fake_device(monkeypatch: Any) -> Iterator[Waits]:
    """Within it there is a device 'cuda'; what is yielded counts the waits for it."""
    for name in ("Stream", "CUDAGraph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, _Stream)
    for name in ("stream", "graph", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, _nothing)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (8 * GIBIBYTES, 8 * GIBIBYTES))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: None)
    # Names of weights need values, and generators a driver.
    monkeypatch.setattr(VQGAN, "_digest", lambda self, prefixes=("",): "0" * 16)
    monkeypatch.setattr(TokenSampler, "_generator_on", lambda self, device: None)
    waits = Waits()
    for function in (_ChunkedLosses, _GatedLinear, _RMSNorm, _Rotate):
        monkeypatch.setattr(function, "apply", partial(waits.tape.apply, function))
    monkeypatch.setattr(Tensor, "backward", lambda self, *_, **__: waits.tape.backward())
    with FakeTensorMode(allow_non_fake_inputs=True), waits, _Host():
        yield waits


def moved(module: nn.Module) -> nn.Module:
    """A copy of a module with its parameters and buffers on the fake device; within :func:`fake_device`."""
    memo: dict[int, Any] = {}
    for child in module.modules():
        for value in (*child._parameters.values(), *child._buffers.values()):
            if value is not None:
                memo.setdefault(id(value), _like(value))
        for value in vars(child).values():
            if isinstance(value, Tensor):  # no buffer, and so not moved with the module
                memo[id(value)] = torch.empty(value.shape, dtype=value.dtype)
    copied = copy.deepcopy(module, memo)
    for child in copied.modules():
        if isinstance(child, BaseDataPreprocessor):
            child._device = torch.device(DEVICE)
    return copied


def _like(value: Tensor) -> Tensor:
    fake = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
    return nn.Parameter(fake, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else fake
