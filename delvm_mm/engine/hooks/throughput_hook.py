"""Tokens a second in the log of training, pictures a second in that of testing."""

import time
from collections.abc import Sequence
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log tokens a second of all processes, and the number of trainable parameters once before training.

    The rate is the mean over the last ``interval`` steps, everything included (loading, step, hooks); validation and
    saving are left out. In testing, pictures a second of all processes since the beginning.

    Args:
        interval (int): Steps between two values. Defaults to 10.
    """

    # Before LoggerHook, which writes what is there when its turn comes.
    priority = "NORMAL"

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self._tokens = 0
        self._seconds = 0.0
        self._since: float | None = None
        self._pictures = 0

    def before_train(self, runner: Runner) -> None:
        """Print the number of trainable parameters."""
        model = unwrap_model(runner.model)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        runner.logger.info(f"trainable parameters: {trained:,}")

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Count the tokens of the batch."""
        now = time.perf_counter()
        if self._since is not None:
            self._seconds += now - self._since
            self._tokens += sum(len(sentence) for sentence in data_batch["inputs"]) * get_world_size()
        self._since = now
        if self._seconds and self.every_n_train_iters(runner, self.interval):
            runner.message_hub.update_scalar("train/tokens_per_s", self._tokens / self._seconds)
            self._tokens, self._seconds = 0, 0.0

    def before_test_epoch(self, runner: Runner) -> None:
        """Start the clock."""
        self._since, self._pictures = time.perf_counter(), 0

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Count the answers of the batch."""
        self._pictures += len(outputs) * get_world_size()
        rate = self._pictures / (time.perf_counter() - self._since)
        runner.message_hub.update_scalar("test/pictures_per_s", rate)

    def before_val(self, runner: Runner) -> None:
        """Stop the clock."""
        self._since = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Stop the clock."""
        self._since = None
