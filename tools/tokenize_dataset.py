"""Tokenize the data sets of a config into token stores: ``delvm tokenize``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("tokenize")
