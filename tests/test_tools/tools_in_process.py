"""Tools that run other tools, without a process for each, whose imports would take most of the time."""

import contextlib
import importlib.util
import io
import itertools
import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
NUMBERS = itertools.count()


def load_tool(name):
    """The module of a tool, such as 'quickstart' or 'analysis/estimate'."""
    spec = importlib.util.spec_from_file_location(f"tool_{Path(name).name}", TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_here(arguments, log, show=None, console=False):
    """``quickstart.run`` in this process."""
    tool, *options = map(str, arguments)
    if not console:
        # MMEngine wants another name for each run of a process.
        if "--cfg-options" not in options:
            options.append("--cfg-options")
        options.insert(options.index("--cfg-options") + 1, f"experiment_name=run_here_{next(NUMBERS)}")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(sys, "argv", [tool, *options])
        runpy.run_path(tool, run_name="__main__")
    for line in out.getvalue().splitlines() if show else ():
        show(line)
