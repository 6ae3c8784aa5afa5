"""Peak memory in the log where MMEngine writes none: on CPUs."""

import resource
import sys
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class MemoryHook(Hook):
    """Log the peak resident memory of the first process, in MiB, as ``memory``; with CUDA, MMEngine logs the device's.

    It is everything that the process has ever had in memory at once: PyTorch itself, weights, activations, and pages
    of token stores that it has read.

    Args:
        interval: Steps between two values. Defaults to 10.
    """

    # Before LoggerHook, which writes what is there when its turn comes.
    priority = "NORMAL"

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Log the peak."""
        if not torch.cuda.is_available() and self.every_n_train_iters(runner, self.interval):
            runner.message_hub.update_scalar("train/memory", peak_resident_mib())


def peak_resident_mib() -> float:
    """The largest resident memory that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
