"""Train a model from a config: ``delvm train``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("train")
