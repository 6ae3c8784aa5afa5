"""Reads and writes the tokens of ``delvm convert-tokens``."""

import argparse
import re

from delvm_mm.commands.parsers.convert_tokens import PUBLISHED_NUM_EMBEDDINGS, make_parser
from delvm_mm.engine.launch import user_errors
from delvm_mm.models import load_tokenizer
from delvm_mm.progress import progress_of
from delvm_mm.stores.released_tokens import export_released_tokens, import_released_tokens
from delvm_mm.stores.token_store import TokenStore


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    run = {"import": import_tokens, "export": export_tokens}[args.command]
    run(args)


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
