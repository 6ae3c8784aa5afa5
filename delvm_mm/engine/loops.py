"""A training loop whose iteration is one optimizer step, whatever number of batches the step is made of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor
from torch.utils.data import DataLoader

from delvm_mm.registry import LOOPS


@LOOPS.register_module()
class AccumulatingTrainLoop(IterBasedTrainLoop):
    """``IterBasedTrainLoop`` that gathers the gradients of several batches before each optimizer step.

    One iteration is one optimizer step: ``max_iters``, schedulers, intervals, logs and the names of checkpoints count
    steps, as published, and stay right when the number of devices or the batch size changes. Logged values are means
    over the batches of a step, and hooks are given all of them as one batch. Resuming goes on at the exact sentence,
    also on another number of processes.

    Args:
        runner: Whose loop it is.
        dataloader: Batches of one process.
        max_iters: Optimizer steps.
        global_batch_tokens: Tokens of a step over all processes, such as the published 262 144. The
            number of batches of a step follows from it, the number of processes, the batch size and the length of
            sentences. By default it is ``optim_wrapper.accumulative_counts``, which is 1.
        **kwargs: As for :class:`mmengine.runner.IterBasedTrainLoop`, such as ``val_interval``.

    Attributes:
        micro_batches: Batches of one process in a step.

    Raises:
        ValueError: If the tokens of a step cannot be shared out evenly, ``optim_wrapper.accumulative_counts`` asks for
            another number of batches, the data set has no ``sentence_length``, or the runner is MMEngine's
            ``FlexibleRunner``, whose strategies accumulate by themselves.

    Examples:
        >>> train_cfg = dict(type='AccumulatingTrainLoop', max_iters=40000, val_interval=2000,
        ...                  global_batch_tokens=262144)
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict | DataLoader,
        max_iters: int,
        global_batch_tokens: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(runner, Runner):
            raise ValueError(
                f"AccumulatingTrainLoop is for MMEngine's Runner, this is a {type(runner).__name__}; use "
                "train_cfg=dict(type='IterBasedTrainLoop', ...) and let the strategy accumulate"
            )
        super().__init__(runner, dataloader, max_iters, **kwargs)
        world_size, batch_size = get_world_size(), self.dataloader.batch_size
        wanted = _accumulative_counts(runner.optim_wrapper)
        if global_batch_tokens is None:
            self.micro_batches = wanted or 1
        else:
            length = getattr(self.dataloader.dataset, "sentence_length", None)
            if not length:
                raise ValueError(
                    f"global_batch_tokens needs sentences of one known length, and {type(self.dataloader.dataset)} has "
                    "no sentence_length; set optim_wrapper.accumulative_counts instead"
                )
            self.micro_batches = count_micro_batches(global_batch_tokens, world_size, batch_size, length)
            if wanted not in (None, 1, self.micro_batches):
                raise ValueError(
                    f"optim_wrapper.accumulative_counts is {wanted}, but global_batch_tokens={global_batch_tokens} "
                    f"makes {self.micro_batches} batches a step; leave one of the two out"
                )
            runner.logger.info(
                f"{global_batch_tokens} tokens a step = {world_size} processes x {batch_size} sentences x {length} "
                f"tokens x {self.micro_batches} micro-batches"
            )
        self.dataloader_iterator = _Grouped(self.dataloader_iterator, self.micro_batches)
        self._tell_runner(runner)

    def run(self) -> Any:
        """Train, after telling the optimizer wrapper how many batches there are in all."""
        # MMEngine has counted steps; the wrapper scales losses and synchronizes gradients by batches.
        self.runner.optim_wrapper.initialize_count_status(
            self.runner.model, self._iter * self.micro_batches, self._max_iters * self.micro_batches
        )
        return super().run()

    def run_iter(self, data_batch: Sequence[Any]) -> None:
        """Make one optimizer step.

        Args:
            data_batch: The batches of the step.
        """
        merged = merge_batches(data_batch)
        self.runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=merged)
        # The wrapper scales each loss, synchronizes gradients at the last batch only, then clips and steps.
        outputs = [self.runner.model.train_step(batch, optim_wrapper=self.runner.optim_wrapper) for batch in data_batch]
        self.runner.call_hook(
            "after_train_iter", batch_idx=self._iter, data_batch=merged, outputs=_mean_values(outputs)
        )
        self._iter += 1

    def _tell_runner(self, runner: Runner) -> None:
        # The runner builds optimizer wrapper and learning rate after its loop, from these.
        if isinstance(runner.optim_wrapper, Mapping):
            if self.micro_batches > 1:
                runner.optim_wrapper["accumulative_counts"] = self.micro_batches
        elif _accumulative_counts(runner.optim_wrapper) != self.micro_batches:
            raise ValueError(
                f"a step has {self.micro_batches} batches, but the optimizer wrapper was built for another number; "
                "give the runner its config, or build it with accumulative_counts"
            )
        scaling = runner.auto_scale_lr
        if scaling and "base_batch_size" in scaling:
            # MMEngine compares it with the sentences of one batch of all processes.
            base = scaling["base_batch_size"] / self.micro_batches
            runner.auto_scale_lr = dict(scaling, base_batch_size=int(base) if base == int(base) else base)


class _Grouped:
    """MMEngine's endless iterator over a loader, several batches at a time."""

    def __init__(self, iterator: Any, size: int) -> None:
        self._iterator = iterator
        self._size = size

    def __iter__(self) -> Iterator[list[Any]]:
        return self

    def __next__(self) -> list[Any]:
        return [next(self._iterator) for _ in range(self._size)]

    def skip_iter(self, num_iters: int) -> None:
        """Pass over the batches of steps that are done."""
        self._iterator.skip_iter(num_iters * self._size)


def count_micro_batches(tokens: int, world_size: int, batch_size: int, length: int) -> int:
    """Batches that each process reads for a step.

    Args:
        tokens: Of a step, over all processes.
        world_size: Processes.
        batch_size: Sentences of one batch of one process.
        length: Tokens of a sentence.

    Returns:
        At least 1.

    Raises:
        ValueError: If they do not divide; the message names the nearest numbers that do.
    """
    if tokens < length or tokens % length:
        low = max(tokens // length, 1) * length
        raise ValueError(
            f"global_batch_tokens is {tokens}, expected a multiple of the {length} tokens of a sentence, such as "
            f"{low} or {low + length}"
        )
    sentences = tokens // length
    if sentences % world_size:
        raise ValueError(
            f"global_batch_tokens is {tokens}, {sentences} sentences of {length} tokens, and {world_size} processes "
            f"cannot share them evenly; start {_nearest_divisors(sentences, world_size)} processes"
        )
    share = sentences // world_size
    if share % batch_size:
        raise ValueError(
            f"global_batch_tokens is {tokens}, {share} sentences of {length} tokens for each of {world_size} "
            f"processes, and batches of {batch_size} do not divide them; set train_dataloader.batch_size to "
            f"{_nearest_divisors(share, batch_size)}"
        )
    return share // batch_size


def merge_batches(batches: Sequence[Any]) -> Any:
    """Several collated batches as the one that a larger batch size would have given."""
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, Mapping):
        return {key: merge_batches([batch[key] for batch in batches]) for key in first}
    if isinstance(first, Tensor):
        return torch.cat(list(batches))
    if isinstance(first, list | tuple):
        return [item for batch in batches for item in batch]
    return None if first is None else list(batches)


def _mean_values(outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if len(outputs) == 1:
        return outputs[0]
    return {key: sum(output[key] for output in outputs) / len(outputs) for key in outputs[0]}


def _accumulative_counts(optim_wrapper: OptimWrapper | Mapping[str, Any] | None) -> int | None:
    if isinstance(optim_wrapper, Mapping):
        return optim_wrapper.get("accumulative_counts")
    return getattr(optim_wrapper, "_accumulative_counts", None)


def _nearest_divisors(number: int, near: int) -> str:
    divisors = [value for value in range(1, number + 1) if number % value == 0]
    below = [value for value in divisors if value < near][-1:]
    above = [value for value in divisors if value > near][:1]
    return " or ".join(map(str, below + above))
