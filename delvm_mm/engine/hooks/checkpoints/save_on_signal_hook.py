"""A checkpoint before the cluster takes the machine away."""

import os
import signal
import sys
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.engine.hooks.checkpoints.safe_checkpoint_hook import SafeCheckpointHook
from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class SaveOnSignalHook(Hook):
    """On SIGTERM, or another signal, finish the step, save a checkpoint and exit with 128 + the signal's number.

    A second signal ends the process at once. Needs :class:`SafeCheckpointHook`. Schedulers differ in the signal and in
    the time they give: Slurm sends SIGTERM ``KillWait`` seconds before the end, or with ``--signal=USR1@300`` another
    one earlier. Not on by default: ``torchrun`` sends SIGTERM too, to the other processes when one has died, and waits
    for them.

    Args:
        signals: Names of the signals. Defaults to ``('SIGTERM',)``.
        interval: In distributed training, steps between two times that the processes ask each other whether one
            got a signal, so that all save the same step. Defaults to 10.

    Raises:
        ValueError: If there is no such signal, or no :class:`SafeCheckpointHook`.
    """

    # After CheckpointHook, so that a step is not saved twice.
    priority = "LOWEST"

    def __init__(self, signals: tuple[str, ...] | list[str] = ("SIGTERM",), interval: int = 10) -> None:
        unknown = [name for name in signals if name not in signal.Signals.__members__]
        if unknown:
            raise ValueError(f"SaveOnSignalHook.signals has {unknown}, expected names such as 'SIGTERM' or 'SIGUSR1'")
        self.signals = [signal.Signals[name] for name in signals]
        self.interval = interval
        self._received = 0
        self._process = 0
        self._before: dict[signal.Signals, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Listen."""
        savers = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        if savers and savers[0].by_epoch:
            raise ValueError(
                "SaveOnSignalHook saves in the middle of an epoch, from where only iteration-based runs go on; it is "
                "for checkpoints with by_epoch=False"
            )
        if not savers:
            raise ValueError(
                "SaveOnSignalHook saves with SafeCheckpointHook; set default_hooks.checkpoint.type='SafeCheckpointHook'"
            )
        self._received, self._process = 0, os.getpid()
        self._before = {number: signal.signal(number, self._receive) for number in self.signals}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Save and exit if there was a signal."""
        received = self._received
        if get_world_size() > 1:
            if not self.every_n_train_iters(runner, self.interval):
                return
            flag = torch.tensor(received)
            all_reduce(flag, op="max")
            received = int(flag)
        if received:
            name = signal.Signals(received).name
            runner.logger.warning(f"{name}: saving step {runner.iter + 1} and stopping; --resume goes on from there")
            next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)).save_now(runner)
            sys.exit(128 + received)

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != self._process:  # a data loader's worker, which was forked with this handler
            os.kill(os.getpid(), number)
        self._received = number
