"""Make a model folder of a config and a checkpoint: what is needed to use the model, and nothing of its training.

    delvm publish configs/mini/student_kd.py work_dirs/.../iter_650.pth published/mini \
        --license apache-2.0 --training-data "procedural scenes of this package (Apache-2.0)" --results scores.json

The optimizer is left out, averaged weights are chosen where the checkpoint has some, prompts and queries are those of
the config's tasks, and the folder's name ends with the first digits of the weights' SHA-256.
"""

import argparse

from mmengine.config import DictAction


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="path of the config")
    parser.add_argument("checkpoint", help="file or sharded folder of its weights")
    parser.add_argument("out", help="folder to write; -<digits of the hash> is added to its name")
    parser.add_argument("--exact-name", action="store_true", help="add nothing to the name")
    parser.add_argument("--tokenizer", metavar="DIR", help="the tokenizer's folder, in place of the config's")
    parser.add_argument(
        "--dtype", help="of the weights in the file: float32, bfloat16, float16; by default as they are"
    )
    parser.add_argument(
        "--weights",
        choices=["averaged", "last"],
        default="averaged",
        help="of a checkpoint that EMAHook wrote: the averaged weights (default), or those of the last step",
    )
    parser.add_argument("--queries", type=int, default=4, help="images of each task to try (4)")
    parser.add_argument("--no-prompts", action="store_true", help="leave prompts out; then no data is read")
    parser.add_argument("--license", default="other", help="identifier, such as apache-2.0")
    parser.add_argument("--training-data", action="append", default=[], metavar="TEXT", help="a line, with its license")
    parser.add_argument("--description", default="", help="text for the head of the model card")
    parser.add_argument("--results", metavar="JSON", help="scores, as delvm test --out writes them")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="settings that override the config's")
    return parser
