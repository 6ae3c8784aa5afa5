"""Look at data: sheets of what will be tokenized, what a store of tokens shows, what a model is trained and asked on.

    delvm browse configs/mini/tokens.py      # stores: clips from raw data, and back from their tokens
    delvm browse configs/mini/student_kd.py  # sentences of the training data, prompts of the tasks
    delvm browse --store data/tokens/seg --tokenizer vqgan-f16-8192-laion  # a store without a config

Sheets are PNG files; of each store a summary is printed. What is damaged or missing is named, and the rest is shown.
"""

import argparse

from mmengine.config import DictAction

PARTS = ("stores", "sentences", "prompts")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", help="config with 'stores', 'train_dataloader' or 'tasks'")
    parser.add_argument("--store", help="folder of a token store, instead of a config")
    parser.add_argument("--tokenizer", help="folder of the tokenizer; the config's by default")
    parser.add_argument("--what", nargs="+", choices=PARTS, help="what to show; by default all that the config has")
    parser.add_argument("--stores", nargs="+", metavar="NAME", help="only these stores: folders, or how they end")
    parser.add_argument("--task", nargs="+", help="only prompts of these tasks")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="whose sentences (train by default)")
    parser.add_argument("--num", type=int, default=16, help="rows of a sheet (16 by default)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice (0 by default)")
    parser.add_argument("--out-dir", help="folder for the sheets; work_dirs/browse/<name> by default")
    parser.add_argument("--device", help="where to decode; by default a GPU if there is one")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override config entries: key=value")
    return parser
