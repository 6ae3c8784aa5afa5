"""Tools that run other tools, without a process for each, whose imports would take most of the time."""

import contextlib
import io
import itertools
import runpy
import sys

import pytest

NUMBERS = itertools.count()


def run_here(arguments, log=None, watch=None):
    """``tool_runs.run_tool`` in this process."""
    tool, *options = map(str, arguments)
    if log is not None:
        # MMEngine wants another name for each run of a process.
        if "--cfg-options" not in options:
            options.append("--cfg-options")
        options.insert(options.index("--cfg-options") + 1, f"experiment_name=run_here_{next(NUMBERS)}")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", [tool, *options])
        runpy.run_path(tool, run_name="__main__")
    if watch is not None:
        watch()
