"""Print what lets a shell complete commands, options, their choices, and names of files.

    delvm completion bash > ~/.local/share/bash-completion/completions/delvm
    delvm completion zsh > ~/.zsh/completions/_delvm    # in a folder of $fpath

What is printed knows the options of now and starts no Python when it completes: print it again after an update.
"""

import argparse

SHELLS = ("bash", "zsh", "tcsh")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shell", choices=SHELLS, help="which shell")
    return parser
