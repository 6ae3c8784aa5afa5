"""Shares of the tasks in training, as planned and as measured."""

from collections import Counter
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class TaskBalanceHook(Hook):
    """Print the shares of the tasks before training; log, as ``share/<task>``, what was really trained on.

    The logged value is over the sentences of all processes since the last one. A sampler other than
    :class:`~delvm_mm.datasets.SentenceSampler` has no plan to print.

    Args:
        interval: Steps between two values. Defaults to 10.
    """

    # Before LoggerHook, which writes what is there when its turn comes.
    priority = "NORMAL"

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self._tasks: list[str] = []
        self._trained: Counter[str] = Counter()

    def before_train(self, runner: Runner) -> None:
        """Print the plan."""
        loader = runner.train_dataloader
        self._tasks = sorted(set(getattr(loader.dataset, "tasks", ())))
        if hasattr(loader.sampler, "task_ratios"):
            runner.logger.info(f"balancing '{loader.sampler.scheme}'\n{balance_table(loader.sampler, loader.dataset)}")

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Count the sentences of the batch."""
        if not self._tasks:
            return
        self._trained.update(sample.task for sample in data_batch["data_samples"])
        if self.every_n_train_iters(runner, self.interval):
            counts = torch.tensor([self._trained[task] for task in self._tasks], dtype=torch.float64)
            all_reduce(counts)
            for task, share in zip(self._tasks, (counts / counts.sum()).tolist(), strict=True):
                runner.message_hub.update_scalar(f"train/share/{task}", share)
            self._trained.clear()


def balance_table(sampler: Any, dataset: Any) -> str:
    """A table of stores and their shares.

    Args:
        sampler: With ``shares``.
        dataset: With ``stores``.

    Returns:
        Several lines.
    """
    table = Table("task", "store", "clips", "copies", "sentences", "an epoch", "share")
    for store, sentences, positions in zip(
        dataset.stores, dataset.sentences_per_store, sampler.shares.tolist(), strict=True
    ):
        copies = str(store.num_augmented_copies) if store.num_augmented_copies else "-"
        share = f"{positions / sampler.size:.1%}" if positions else "not used"
        table.add_row(store.task, str(store.path), f"{len(store):,}", copies, f"{sentences:,}", f"{positions:,}", share)
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table)
    shares = ", ".join(f"{task} {ratio:.1%}" for task, ratio in sampler.task_ratios.items())
    return f"{captured.get()}{shares}"
