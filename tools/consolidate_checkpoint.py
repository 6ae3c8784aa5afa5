"""Make one file of a sharded checkpoint: ``delvm consolidate``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("consolidate")
