"""List the configs that the package carries, or print one as a whole, with all that it inherits.

    delvm configs                          # all of them, by the name that every command takes
    delvm configs mini                     # those with 'mini' in the name
    delvm configs delvm_mm::zoo/mini.py    # the whole of one, to be kept and changed: ... > mine.py

Where there is no file ``configs/zoo/mini.py``, commands and configs find the package's under that name, too.
"""

import argparse

from delvm_mm.engine.configs.files import SCOPE, read_config, shipped_configs
from delvm_mm.engine.launch import user_errors


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="", help="a part of the names to list, or one whole name to print")
    return parser


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    names = shipped_configs()
    if args.name.startswith(SCOPE) or args.name.removeprefix("configs/") in names:
        print(read_config(SCOPE + args.name.removeprefix("configs/").removeprefix(SCOPE)).pretty_text, end="")
        return
    found = [name for name in names if args.name in name]
    if not found:
        raise ValueError(f"none of the {len(names)} configs of the package has '{args.name}' in its name")
    for name in found:
        print(SCOPE + name)
