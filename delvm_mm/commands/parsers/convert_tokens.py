"""Convert tokens between token stores and the text format in which the method's authors release them.

    delvm convert-tokens import train.bin data/tokens/seg --task seg --tokenizer vqgan-f16-8192-laion
    delvm convert-tokens export data/tokens/seg released/train.bin --images-per-row 8

A store has clips of one length: rows of several lengths become several stores below the folder that is named.
``train.bin.meta`` is written beside an exported file; on import it is checked where it is there, and not needed.
"""

import argparse

PUBLISHED_NUM_EMBEDDINGS = 8192


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="import | export")

    reading = commands.add_parser("import", help="released tokens to token stores")
    reading.add_argument("file", help="released tokens, e.g. train.bin")
    reading.add_argument("out", help="folder to make")
    reading.add_argument("--task", required=True, help="the task of all rows, e.g. seg")
    made_by = reading.add_mutually_exclusive_group(required=True)
    made_by.add_argument("--tokenizer", help="folder of the tokenizer that made the tokens")
    made_by.add_argument("--fingerprint", help="its fingerprint, where the folder is not at hand")
    reading.add_argument(
        "--grid", nargs=2, type=int, default=(16, 16), metavar=("H", "W"), help="tokens of an image; 16 16 by default"
    )
    reading.add_argument(
        "--num-embeddings", type=int, help=f"codebook size; the tokenizer's, or {PUBLISHED_NUM_EMBEDDINGS}, by default"
    )
    reading.add_argument(
        "--clip-length", type=int, help="images of a clip: longer rows are split; by default a row is a clip"
    )
    reading.add_argument("--source", help="where the data comes from, noted in the store; the file's name by default")
    reading.add_argument("--shard-clips", type=int, help="clips in a shard; by default as many as make 16 MiB")

    writing = commands.add_parser("export", help="token stores to released tokens")
    writing.add_argument("stores", nargs="+", metavar="store", help="folders of token stores")
    writing.add_argument("file", help="file to make, e.g. train.bin; <file>.meta is made beside it")
    writing.add_argument(
        "--images-per-row", type=int, help="lay clips end to end to rows of so many images, e.g. 8; a clip a row "
        "by default"
    )  # fmt: skip
    return parser
