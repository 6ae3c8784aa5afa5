"""Make a model folder of a config and a checkpoint: ``delvm publish``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("publish")
