"""The arguments of the sub-commands, a module each with ``make_parser``.

They import nothing that takes time, neither models nor toolboxes, so that ``--help`` and wrong arguments are answered
at once. What the commands do is in the modules of the same names beside this folder.
"""

import argparse
import os
from collections.abc import Sequence

from mmengine.config import DictAction

from delvm_mm.engine.launchers import LAUNCHERS

__all__ = ["add_run_arguments", "parse_run_arguments"]


def add_run_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the arguments that every runner of configs has; the parser itself is given back."""
    parser.add_argument("--work-dir", help="where logs and checkpoints go; work_dirs/<config name> by default")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, help="settings that override the config's, as key=value"
    )
    parser.add_argument(
        "--launcher",
        choices=["none", *LAUNCHERS],
        default="none",
        help="not needed: processes started by torchrun, srun or mpirun notice it",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    return parser


def parse_run_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line, by default this process's, with :func:`add_run_arguments`, and tell MMEngine the rank."""
    args = parser.parse_args(arguments)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args
