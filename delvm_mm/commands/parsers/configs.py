"""List the configs that the package carries, or print one as a whole, with all that it inherits.

    delvm configs                          # all of them, by the name that every command takes
    delvm configs mini                     # those with 'mini' in the name
    delvm configs delvm_mm::zoo/mini.py    # the whole of one, to be kept and changed: ... > mine.py

Where there is no file ``configs/zoo/mini.py``, commands and configs find the package's under that name, too.
"""

import argparse


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="", help="a part of the names to list, or one whole name to print")
    return parser
