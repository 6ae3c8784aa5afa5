"""Look at data, token stores and prompts: ``delvm browse``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("browse")
