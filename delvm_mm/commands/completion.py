"""Prints what ``delvm completion`` is asked for."""

import argparse
from typing import Any

from delvm.cli import COMMANDS, load_parser
from delvm_mm.commands.parsers.completion import make_parser
from delvm_mm.engine.launch import user_errors


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    try:
        import shtab
    except ImportError as error:
        raise ImportError("completion needs shtab: pip install shtab") from error
    print(shtab.complete(whole_parser(shtab.FILE), args.shell))


def whole_parser(files: Any) -> argparse.ArgumentParser:
    """One parser with all commands.

    Args:
        files: What marks an argument that takes the name of a file.

    Returns:
        The parser; each argument of free text is marked.
    """
    parser = argparse.ArgumentParser(prog="delvm")
    parser.add_argument("--version", action="store_true", help="name the version")

    def parser_of(prog: str, **_: Any) -> argparse.ArgumentParser:
        made = load_parser(prog.split()[-1])
        made.prog = prog
        mark(made, files)
        return made

    commands = parser.add_subparsers(parser_class=parser_of)
    for name, what in COMMANDS.items():
        commands.add_parser(name, help=what)
    return parser


def mark(parser: argparse.ArgumentParser, files: Any) -> None:
    """Mark all arguments of free text, below sub-commands too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                mark(below, files)
        elif action.nargs != 0 and action.type is None and not action.choices:
            action.complete = files
