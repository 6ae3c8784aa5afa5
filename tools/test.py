"""Score a model on the tasks of its config: ``delvm test``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("test")
