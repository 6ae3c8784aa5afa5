"""Make one ordinary checkpoint file of a folder that several processes wrote, or of a checkpoint its weights alone."""

import argparse


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="the folder, such as work_dirs/llama1b_fsdp/iter_40000.pth, or a file")
    parser.add_argument("out", help="the file to write, such as llama1b.pth")
    parser.add_argument("--weights-only", action="store_true", help="leave out what only resuming needs")
    return parser
