"""Convert token stores from and to released tokens: ``delvm convert-tokens``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("convert-tokens")
