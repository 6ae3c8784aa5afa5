"""Convert tokenizers between formats: ``delvm convert-tokenizer``, which has the code."""

from delvm.cli import run

if __name__ == "__main__":
    run("convert-tokenizer")
