"""Finds the code of a sub-command: a module of ``delvm_mm.commands``, or of this package where that may not load.

Its arguments are in a module of their own, which loads in a moment: ``--help`` and wrong arguments need no more.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType

__all__ = ["COMMANDS", "load_command", "load_parser", "main", "run"]

COMMANDS = {
    "doctor": "say what is installed here, what is missing, and the command that mends it",
    "prompt": "show a model pairs of image and label, and let it answer other images",
    "page": "the same on a web page",
    "test": "score a model on the tasks of a config, beside ceiling and trivial answers",
    "train": "train a model from a config: a tokenizer, a language model, or a student with distillation",
    "tokenize": "tokenize the data sets of a config into token stores",
    "cache-teacher": "write down what a teacher predicts, to distil from without it",
    "browse": "look at data, token stores, sentences and prompts",
    "publish": "make a model folder of a config and a checkpoint",
    "convert": "convert a model to a Hugging Face folder, a GGUF file or a model folder",
    "convert-tokenizer": "convert tokenizers between the layouts of openMUSE, diffusers and taming-transformers",
    "convert-tokens": "convert token stores from and to the text format of released tokens",
    "consolidate": "make one checkpoint file of a folder that several processes wrote",
    "configs": "list the configs that the package carries, or print one as a whole",
    "completion": "print what lets a shell complete this command",
}
"""Command -> what it does. The module has the same name, with ``_`` for ``-``."""
HERE = ("doctor",)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line that is given, by default this process's."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
    elif arguments[0] == "--version":
        print(f"delvm_mm {version()}")
    elif arguments[0] in COMMANDS:
        name = Path(sys.argv[0]).name
        name = "python -m delvm" if name == "__main__.py" else name
        sys.argv = [f"{name} {arguments[0]}", *arguments[1:]]  # the name is what --help and errors begin with
        run(arguments[0])
    else:
        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        advice = f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(COMMANDS)}"
        print(f"error: delvm has no command '{arguments[0]}'; {advice}", file=sys.stderr)
        sys.exit(2)


def run(command: str) -> None:
    """Run a command with the arguments of this process, ``sys.argv``."""
    try:
        load_parser(command).parse_args()  # ends here for --help and for what it refuses
        module = load_command(command)
    except ImportError as error:
        sys.exit(f"error: {error}\n(`delvm doctor` says what else is missing)")
    module.main()


def load_parser(command: str) -> argparse.ArgumentParser:
    """Import the arguments of a command, without its code.

    Returns:
        The parser.

    Raises:
        ImportError: MMEngine is missing or unusable; the message says what to install.
    """
    package = "delvm" if command in HERE else "delvm_mm.commands.parsers"
    return _module(package, command).make_parser()


def load_command(command: str) -> ModuleType:
    """Import the code of a command.

    Returns:
        A module with ``main``.

    Raises:
        ImportError: Something that it needs is missing or unusable; the message says what to install.
    """
    package = "delvm" if command in HERE else "delvm_mm.commands"
    return _module(package, command)


def _module(package: str, command: str) -> ModuleType:
    return importlib.import_module(f"{package}.{command.replace('-', '_')}")


def usage() -> str:
    """What ``delvm --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"    {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: delvm COMMAND [ARGUMENTS]",
            "",
            "Data-efficient large vision models for the OpenMMLab toolboxes.",
            "",
            *lines,
            "",
            "    delvm COMMAND --help  says more about one; delvm --version names the version",
        ]
    )


def version() -> str:
    """Of the installed package."""
    try:
        return metadata.version("delvm_mm")
    except metadata.PackageNotFoundError:
        return "(not installed: it is read from a folder)"
