"""Makes the one file of ``delvm consolidate``."""

import functools
import os

import torch

from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.checkpoints.io import load_checkpoint
from delvm_mm.checkpoints.sharded import is_sharded
from delvm_mm.commands.parsers.consolidate import make_parser
from delvm_mm.engine.launch import user_errors


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    if not is_sharded(args.folder) and not args.weights_only:
        raise ValueError(
            f"{args.folder} is no folder of shards; an ordinary checkpoint file needs no consolidating, only "
            "--weights-only makes something else of it"
        )
    if os.path.isdir(args.out):
        raise ValueError(f"{args.out} is a folder; name the file to write")
    checkpoint = load_checkpoint(args.folder)
    if "state_dict" not in checkpoint:
        raise ValueError(f"{args.folder} holds no weights under 'state_dict': expected what a run has saved")
    if args.weights_only:
        checkpoint = {key: checkpoint[key] for key in ("meta", "state_dict") if key in checkpoint}
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    write_atomically(args.out, functools.partial(torch.save, checkpoint))
    print(f"{args.out}: {len(checkpoint['state_dict'])} tensors, {os.path.getsize(args.out):,} bytes")


if __name__ == "__main__":
    main()
