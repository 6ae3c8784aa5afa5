"""Make one ordinary checkpoint file of a folder that several processes wrote, or of a checkpoint its weights alone."""

import argparse
import functools
import os

import torch

from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.checkpoints.io import load_checkpoint
from delvm_mm.checkpoints.sharded import is_sharded
from delvm_mm.engine.launch import user_errors


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="the folder, such as work_dirs/llama1b_fsdp/iter_40000.pth, or a file")
    parser.add_argument("out", help="the file to write, such as llama1b.pth")
    parser.add_argument("--weights-only", action="store_true", help="leave out what only resuming needs")
    return parser


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
