"""What is written to the log: :class:`LogProcessor`."""

import re
from collections.abc import Mapping
from typing import Any

from mmengine.runner import LogProcessor as MMEngineLogProcessor
from mmengine.runner import Runner

from delvm_mm.registry import LOG_PROCESSORS, type_name

NOTHING = re.compile(r"(?!)")


@LOG_PROCESSORS.register_module()
class LogProcessor(MMEngineLogProcessor):
    """MMEngine's, with the metrics of a validation or a test logged as they are.

    MMEngine smooths every value whose name matches ``mean_pattern``, such as ``token/loss``, over the last
    ``window_size`` of its kind: of a metric these are other validations, of earlier weights. Here
    the pattern is for training alone; ``custom_cfg`` averages what else shall be.

    ``log_processor = dict(type="LogProcessor")`` is this one where ``default_scope = "delvm_mm"``; without a type
    MMEngine takes its own. The tools put this one in, in every scope.
    Arguments are those of :class:`mmengine.runner.LogProcessor`.
    """

    def get_log_after_epoch(
        self, runner: Runner, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict, str]:
        """Format what a validation or a test has given.

        Args:
            runner: Whose log it is.
            batch_idx: Number of the last batch.
            mode: 'val' or 'test'.
            with_non_scalar: Whether the first result holds values that are no numbers, too.

        Returns:
            What visualizers write, by name, and a line for the log.
        """
        smoothed, self.mean_pattern = self.mean_pattern, NOTHING  # times are averaged whatever the pattern
        try:
            return super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        finally:
            self.mean_pattern = smoothed


def with_exact_metrics(log_processor: Mapping[str, Any] | None) -> dict[str, Any]:
    """A ``log_processor`` of a config, ours where it is MMEngine's; one of a user's own class stays as it is."""
    config = dict(log_processor or {})
    if type_name(config) in ("", "LogProcessor"):
        config["type"] = "delvm_mm.LogProcessor"
    return config
