"""Prompt a model from the shell: ``delvm prompt``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("prompt")
