"""The page of commands: what ``delvm`` and each tool answer to ``--help``."""

import contextlib
import io
import os
import re
import runpy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

from delvm.cli import COMMANDS

FOLDERS = {"tools": "Tools", "tools/analysis": "Analysis", "tools/benchmarks": "Benchmarks"}
SUBCOMMANDS = {"prompt": ("complete", "frames"), "convert-tokens": ("import", "export")}
WIDTH = "100"
NOT_RUN_BY_HAND = ("mended_xtcocotools.py",)


def commands_page(root: Path) -> str:
    """Markdown: every command and tool with its help."""
    tools = {command_of(path): path.name for path in tools_of(root, "tools")}
    lines = [
        "# Commands",
        "",
        "What each command answers to `--help`. `delvm` is installed with the package; in a checkout `tools/*.py` run "
        "the same code, and there are some more.",
        "",
        *block("delvm", help_of_delvm()),
    ]
    for name in COMMANDS:
        for more in ((), *((one,) for one in SUBCOMMANDS.get(name, ()))):
            lines += block(" ".join(["delvm", name, *more]), help_of_delvm(name, *more))
        if name in tools:
            lines += [f"The same: `python tools/{tools[name]}`.", ""]
    for folder, title in FOLDERS.items():
        paths = [path for path in tools_of(root, folder) if command_of(path) is None]
        lines += [f"## {title}", ""]
        for path in paths:
            lines += block(path.name, help_of(path))
    lines += ["## Shell", ""]
    for path in sorted((root / "tools").glob("*.sh")):
        lines += [f"### {path.name}", "", "```shell", *leading_comment(path), "```", ""]
    return "\n".join(lines)


def block(title: str, text: str) -> list[str]:
    """Lines of Markdown: a heading and what was printed."""
    return [f"{'##' if title == 'delvm' else '###'} {title}", "", "```text", text.rstrip(), "```", ""]


def tools_of(root: Path, folder: str) -> list[Path]:
    """Files of a folder that are run, which have a main part."""
    files = [path for path in sorted((root / folder).glob("*.py")) if path.name not in NOT_RUN_BY_HAND]
    return [path for path in files if "__main__" in path.read_text("utf-8")]


def command_of(path: Path) -> str | None:
    """The command of ``delvm`` that a tool runs; None where the tool has code of its own."""
    found = re.search(r'^    run\("([\w-]+)"\)$', path.read_text("utf-8"), re.MULTILINE)
    return found and found[1]


def help_of(path: Path, *command: str) -> str:
    """What a tool prints with ``--help``."""
    return printed(partial(runpy.run_path, str(path), run_name="__main__"), str(path), *command)


def help_of_delvm(*command: str) -> str:
    """What ``delvm`` prints with ``--help``."""
    return printed(partial(runpy.run_module, "delvm", run_name="__main__"), "delvm", *command)


def printed(run: Callable[[], object], program: str, *command: str) -> str:
    """What a program prints with ``--help``, run in this process: imports would take most of the time of another.

    Args:
        run: Runs it, with the arguments in ``sys.argv``.
        program: Its path or name.
        *command: Its sub-commands.

    Returns:
        The text, 100 columns wide.

    Raises:
        RuntimeError: It ended with an error.
    """
    text = io.StringIO()
    with (
        mock.patch.object(sys, "path", [str(Path(program).parent), *sys.path]),
        mock.patch.object(sys, "argv", [Path(program).name, *command, "--help"]),
        mock.patch.dict(os.environ, COLUMNS=WIDTH, NO_COLOR="1"),
        contextlib.redirect_stdout(text),
    ):
        try:
            run()
        except SystemExit as end:
            if end.code not in (None, 0):
                raise RuntimeError(f"{program} {' '.join(command)} --help ended with {end.code!r}") from end
    if "usage" not in text.getvalue().lower():
        raise RuntimeError(f"{program} {' '.join(command)} has no --help: it ran")
    return text.getvalue()


def leading_comment(path: Path) -> list[str]:
    """The comment at the head of a shell script."""
    lines = []
    for line in path.read_text("utf-8").splitlines()[1:]:
        if not line.startswith("#"):
            break
        lines.append(line)
    return lines
