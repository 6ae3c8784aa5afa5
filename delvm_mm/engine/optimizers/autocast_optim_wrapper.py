"""Mixed precision in bfloat16 on any device that has it, CPUs included."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from delvm_mm.hardware import has_bfloat16
from delvm_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper`` with the forward pass under ``torch.autocast``.

    bfloat16 has the range of float32, so there is no loss scale. MMEngine's own ``AmpOptimWrapper`` (float16 with a
    loss scale, or bfloat16) refuses to run without an accelerator. On a CPU that would have to emulate bfloat16, many
    times slower than float32, the forward pass stays in float32, and the log says so.

    Args:
        dtype: 'bfloat16', the only type that needs no loss scale.
        **kwargs: As for :class:`mmengine.optim.OptimWrapper`.

    Raises:
        ValueError: If ``dtype`` is another one.
    """

    def __init__(self, dtype: str = "bfloat16", **kwargs: Any) -> None:
        if dtype != "bfloat16":
            raise ValueError(f"dtype is '{dtype}', expected 'bfloat16'; for float16 use MMEngine's AmpOptimWrapper")
        super().__init__(**kwargs)
        self._said = False

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of a training step in bfloat16 where that is safe."""
        device = next(model.parameters()).device.type
        fast = has_bfloat16(device)
        if not fast and not self._said:
            self._said = True
            print_log("this CPU has no bfloat16 instructions: training runs in float32", "current")
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16, enabled=fast):
            yield
