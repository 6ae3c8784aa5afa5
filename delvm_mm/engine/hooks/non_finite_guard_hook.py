"""Steps with a loss or gradient that is not finite: skipped, counted, and after too many of them the end."""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model.wrappers import MMDistributedDataParallel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor

from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.engine.optimizers.step_guard import GuardedOptimWrapper, SkippedStep, guard_steps, unguard_steps
from delvm_mm.registry import HOOKS

PROCESSES_SHOWN = 4
CONTENTS_SHOWN = 8


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Skip every step whose loss or gradient norm is not finite; stop the run when there are too many.

    A skipped step changes no weight and no optimizer state; it is logged with the parts of the loss and the sentences.
    With gradient accumulation the whole accumulated step is dropped, and in distributed training on all processes.
    The learning rate goes by the number of steps and so goes on; AdamW's own count of steps does not. Steps that
    float16's loss scaler skips while it looks for a scale above 1 are not counted. The counts are in the checkpoints.

    When the run stops, with a ``FloatingPointError``, the batches of the last skipped step are in
    ``work_dir/non_finite_batch.pth`` (``torch.load(..., weights_only=True)``); in distributed training
    ``non_finite_batch_rank<r>.pth`` of the processes whose loss was not finite, or of all if no loss was.

    Args:
        max_skipped: Stop after this many skipped steps in a row. Defaults to 10.
        max_total: Stop after this many skipped steps in all, those before a resume included. Defaults to 100.

    Raises:
        ValueError: If a number is below 1.
    """

    # Before LoggerHook, which writes what is there when its turn comes.
    priority = "NORMAL"

    def __init__(self, max_skipped: int = 10, max_total: int = 100) -> None:
        for name, value in (("max_skipped", max_skipped), ("max_total", max_total)):
            if value < 1:
                raise ValueError(f"NonFiniteGuardHook.{name} is {value}, expected 1 or more")
        self.max_skipped = max_skipped
        self.max_total = max_total
        self._guarded: list[GuardedOptimWrapper] = []
        self._batches: list[Any] = []
        self._losses: list[dict[str, Any]] = []
        self._in_a_row = self._total = 0

    def before_train(self, runner: Runner) -> None:
        """Take the counts of a resumed run and watch the optimizer's steps."""
        self.after_train(runner)  # a run before this one may have ended with an error
        counts = runner.message_hub.get_info("skipped_steps", dict(in_a_row=0, total=0))
        self._in_a_row, self._total = counts["in_a_row"], counts["total"]
        self._batches, self._losses = [], []
        wrappers = runner.optim_wrapper
        wrappers = list(wrappers.values()) if isinstance(wrappers, OptimWrapperDict) else [wrappers]
        if not all(isinstance(wrapper, OptimWrapper) for wrapper in wrappers):
            runner.logger.warning(f"NonFiniteGuardHook does not know {type(wrappers[0]).__name__} and does nothing")
            return
        is_sharded = get_world_size() > 1 and not isinstance(runner.model, MMDistributedDataParallel)
        self._guarded = [guard_steps(wrapper, reduce=is_sharded) for wrapper in wrappers]

    def after_train(self, runner: Runner) -> None:
        """Stop watching the optimizer."""
        for wrapper in self._guarded:
            unguard_steps(wrapper)
        self._guarded = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Look at the step, if there was one.

        Raises:
            FloatingPointError: If it was one too many.
        """
        self._batches.append(data_batch)
        self._losses.append({key: value.detach() for key, value in (outputs or {}).items() if _is_scalar(value)})
        if not any(wrapper.stepped for wrapper in self._guarded):
            return
        batches, losses = self._batches, self._losses
        self._batches, self._losses = [], []
        skipped = [outcome for wrapper in self._guarded if wrapper.stepped and (outcome := wrapper.take_outcome())]
        if all(outcome.scale_search for outcome in skipped):
            if not skipped and self._in_a_row:
                self._in_a_row = 0
                self._remember(runner)
            return
        self._in_a_row += 1
        self._total += 1
        self._remember(runner)
        what = f"step {runner.iter + 1}: {_shown(losses, skipped)}"
        # All processes are here: gradients are the same on all of them. The losses are not.
        own_loss = any(outcome.own_loss for outcome in skipped)
        contents = all_gather_object((own_loss, _contents(batches)))
        culprits = [rank for rank, (bad, _) in enumerate(contents) if bad] or list(range(len(contents)))
        runner.logger.warning(
            f"skipped {what}; {_of_processes(culprits, contents)}; "
            f"{self._total} skipped in all, {self._in_a_row} in a row"
        )
        if self._in_a_row >= self.max_skipped or self._total >= self.max_total:
            self._stop(runner, what, batches, losses, skipped, culprits)

    def _remember(self, runner: Runner) -> None:
        runner.message_hub.update_info("skipped_steps", dict(in_a_row=self._in_a_row, total=self._total))
        runner.message_hub.update_scalar("train/skipped_steps", self._total)

    def _stop(
        self,
        runner: Runner,
        what: str,
        batches: list[Any],
        losses: list[dict],
        skipped: list[SkippedStep],
        culprits: list[int],
    ) -> None:
        rank = get_rank() if get_rank() in culprits else culprits[0]
        name = "non_finite_batch.pth" if get_world_size() == 1 else f"non_finite_batch_rank{rank}.pth"
        path = os.path.join(runner.work_dir, name)
        if get_rank() in culprits:
            content = dict(
                step=runner.iter + 1,
                rank=rank,
                losses=[{key: float(value) for key, value in parts.items()} for parts in losses],
                grad_norm=[outcome.grad_norm for outcome in skipped],
                batches=[_plain(batch) for batch in batches],
            )
            write_atomically(path, functools.partial(torch.save, content))
        raise FloatingPointError(
            f"{self._in_a_row} steps in a row, {self._total} in all, had a loss or gradient that is not finite, the "
            f"last one {what}. They changed no weight. Its batch is in {path}. Lower the learning rate or clip_grad, "
            "or look at the data, and go on from the last checkpoint with --resume"
        )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


def _shown(losses: list[dict[str, Tensor]], skipped: list[SkippedStep]) -> str:
    """The parts of the loss, of each accumulated batch, and the norm of the gradient."""
    parts = [" ".join(f"{key} {float(value):.4g}" for key, value in part.items()) for part in losses]
    norms = ", ".join(f"{outcome.grad_norm:.4g}" for outcome in skipped)
    return f"{' | '.join(parts)}, gradient norm {norms}"


def _of_processes(culprits: list[int], contents: list[tuple[bool, str]]) -> str:
    """What the first processes whose loss was not finite had read, or all."""
    if len(contents) == 1:
        return contents[0][1]
    more = f" and {len(culprits) - PROCESSES_SHOWN} more processes" if len(culprits) > PROCESSES_SHOWN else ""
    return "; ".join(f"process {rank}: {contents[rank][1]}" for rank in culprits[:PROCESSES_SHOWN]) + more


def _contents(batches: list[Any]) -> str:
    """Tasks and numbers of the sentences of this process, or paths of its images."""
    samples = [sample for batch in batches if isinstance(batch, Mapping) for sample in batch.get("data_samples") or ()]
    for kind, fields, name in (
        ("sentences", ("task", "sentence", "epoch"), "{0.task} {0.sentence} (epoch {0.epoch})"),
        ("images", ("img_path",), "{0.img_path}"),
    ):
        names = [name.format(sample) for sample in samples if all(hasattr(sample, field) for field in fields)]
        if names:
            more = f" and {len(names) - CONTENTS_SHOWN} more" if len(names) > CONTENTS_SHOWN else ""
            return f"{kind} {', '.join(names[:CONTENTS_SHOWN])}{more}"
    return "no sentences or images named"


def _plain(value: Any) -> Any:
    """A batch as tensors, lists and dicts, which load with ``weights_only``."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return _plain(torch.from_numpy(value.astype(np.int64) if value.dtype.kind == "u" else value))
    if isinstance(value, BaseDataElement):
        return {key: _plain(entry) for key, entry in value.all_items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, int | float | str | bool | None) else str(value)
