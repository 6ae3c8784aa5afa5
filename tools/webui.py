"""Show the web page to prompt a model: ``delvm page``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("page")
