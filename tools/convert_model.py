"""Convert a model to other formats: ``delvm convert``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("convert")
