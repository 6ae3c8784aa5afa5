"""Convert tokens between token stores and the text format in which the method's authors release them.

    delvm convert-tokens import train.bin data/tokens/seg --task seg --tokenizer vqgan-f16-8192-laion
    delvm convert-tokens export data/tokens/seg released/train.bin --images-per-row 8

A store has clips of one length: rows of several lengths become several stores below the folder that is named.
``train.bin.meta`` is written beside an exported file; on import it is checked where it is there, and not needed.
"""

import argparse
import re

from delvm_mm.engine.launch import user_errors
from delvm_mm.models import load_tokenizer
from delvm_mm.progress import progress_of
from delvm_mm.stores.released_tokens import export_released_tokens, import_released_tokens
from delvm_mm.stores.token_store import TokenStore

PUBLISHED_NUM_EMBEDDINGS = 8192


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    args.run(args)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="import | export")

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
    reading.set_defaults(run=import_tokens)

    writing = commands.add_parser("export", help="token stores to released tokens")
    writing.add_argument("stores", nargs="+", metavar="store", help="folders of token stores")
    writing.add_argument("file", help="file to make, e.g. train.bin; <file>.meta is made beside it")
    writing.add_argument(
        "--images-per-row", type=int, help="lay clips end to end to rows of so many images, e.g. 8; a clip a row "
        "by default"
    )  # fmt: skip
    writing.set_defaults(run=export_tokens)
    return parser


def import_tokens(args: argparse.Namespace) -> None:
    """Make token stores of a file and say what became of its rows."""
    if args.shard_clips is not None and args.shard_clips < 1:
        raise ValueError(f"--shard-clips must be at least 1, got {args.shard_clips}")
    fingerprint, num_embeddings = _tokenizer_of(args)
    with progress_of(args.file, "KB") as show:
        folders = import_released_tokens(
            args.file,
            args.out,
            grid=tuple(args.grid),
            num_embeddings=num_embeddings,
            tokenizer_fingerprint=fingerprint,
            task=args.task,
            source=args.source,
            clip_length=args.clip_length,
            shard_clips=args.shard_clips,
            progress=lambda done, total: show(done // 1000, total // 1000),
        )
    for store in map(TokenStore, folders):
        k, tokens = store.clip_shape
        print(f"{store.path}: {len(store)} clips of {k} x {tokens} tokens")
        if store.grid != tuple(args.grid):
            print(
                f"  note: {tokens} tokens are no whole number of images of {args.grid[0]} x {args.grid[1]}; these "
                f"rows are kept whole, as a 'image' of 1 x {tokens}, and do not go into one training with the others"
            )
        elif args.clip_length not in (None, k):
            print(f"  note: rows of {k} images do not split into clips of {args.clip_length} and are kept whole")


def export_tokens(args: argparse.Namespace) -> None:
    """Write a file of token stores."""
    with progress_of(args.file, "clips") as show:
        rows = export_released_tokens(args.stores, args.file, args.images_per_row, progress=show)
    print(f"{args.file}: {rows} rows; offsets and lengths are in {args.file}.meta")


def _tokenizer_of(args: argparse.Namespace) -> tuple[str, int]:
    """Fingerprint and codebook size."""
    if args.tokenizer is None:
        if not re.fullmatch("[0-9a-f]{16}", args.fingerprint):
            raise ValueError(
                f"--fingerprint {args.fingerprint!r} is none: expected 16 hexadecimal digits, as in the index.json of "
                "a token store; or give --tokenizer"
            )
        return args.fingerprint, PUBLISHED_NUM_EMBEDDINGS if args.num_embeddings is None else args.num_embeddings
    tokenizer = load_tokenizer(args.tokenizer)
    if args.num_embeddings not in (None, tokenizer.num_embeddings):
        raise ValueError(
            f"--num-embeddings is {args.num_embeddings}, but the codebook of {args.tokenizer} has "
            f"{tokenizer.num_embeddings} entries: leave the option out, or name the tokenizer that made the tokens"
        )
    return tokenizer.fingerprint, tokenizer.num_embeddings


if __name__ == "__main__":
    main()
