"""Keeps from the terminal what toolboxes say and a user cannot act on: each by its first words, and nothing else."""

import functools
import logging
import re
import warnings
from typing import Literal

# Lines of ``warnings.filterwarnings``'s arguments: action, message, category, module.
WARNINGS: tuple[tuple[Literal["ignore"], str, type[Warning], str], ...] = (
    ("ignore", "Fail to import ``MultiScaleDeformableAttention``", UserWarning, ""),  # mmcv without compiled ops
    # An optimizer that starts later, a discriminator's, has a schedule from the first step on.
    ("ignore", r"Detected call of `scheduler\.step\(\)` before", UserWarning, ""),
    # Damaged metadata of images: what cannot be read for it is reported by the readers.
    ("ignore", "", UserWarning, r"PIL\.TiffImagePlugin"),
)
# Of MMEngine's logger, whose file keeps them.
LOG_LINES = re.compile(
    r'"FileClient" will be deprecated|"HardDiskBackend" is the alias'
    r"|The prefix is not set in metric class"
    r"|\S+ is skipped since its requires_grad=|paramwise_options -- "
    r"|\n\S+ - torch\.Size\("  # how a parameter was initialized
)


class NotForTheTerminal(logging.Filter):
    """Drops what matches :data:`LOG_LINES`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        return LOG_LINES.match(record.getMessage()) is None


def quiet_terminal(logger: logging.Logger) -> None:
    """Keep :data:`LOG_LINES` from the handlers of a logger that write into no file."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(NotForTheTerminal())


def ignore_warnings() -> None:
    """Ignore :data:`WARNINGS`, and what MMEngine prints for debugging where no logger is named (toolboxes do so)."""
    for arguments in WARNINGS:
        warnings.filterwarnings(*arguments)

    from mmengine import logging as mmengine_logging  # not before it is known to be there

    shown = mmengine_logging.print_log

    @functools.wraps(shown)
    def print_log(msg: object, logger: object = None, level: int = logging.INFO) -> None:
        if logger is not None or level > logging.DEBUG:
            shown(msg, logger, level)

    mmengine_logging.print_log = print_log
