"""Write down what a teacher predicts: ``delvm cache-teacher``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("cache-teacher")
