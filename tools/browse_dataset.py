"""Look at data: sheets of what will be tokenized, what a store of tokens shows, what a model is trained and asked on.

    python tools/browse_dataset.py configs/mini/tokens.py      # stores: clips from raw data, and back from their tokens
    python tools/browse_dataset.py configs/mini/student_kd.py  # sentences of the training data, prompts of the tasks
    python tools/browse_dataset.py --store data/tokens/seg --tokenizer vqgan-f16-8192-laion  # a store without a config

Sheets are PNG files; of each store a summary is printed. What is damaged or missing is named, and the rest is shown.
"""

import sys

try:
    import delvm_mm  # noqa: F401
except ImportError as error:  # MMEngine or mmcv is missing or unusable; the message says what to install
    sys.exit(f"error: {error}")


import argparse
import math
import random
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import Dataset

from delvm_mm.datasets import TokenStore, VisualSentenceDataset
from delvm_mm.datasets.tokenization import DATA_ERRORS
from delvm_mm.datasets.tokenization import _SeededClips as SeededClips
from delvm_mm.datasets.tokenization import _Unreadable as Unreadable
from delvm_mm.engine.launch import load_config, user_errors
from delvm_mm.models import load_tokenizer
from delvm_mm.registry import DATASETS
from delvm_mm.visualization import draw_panel, stack_panels
from delvm_mm.visualization.sheets import draw_row

PARTS = ("stores", "sentences", "prompts")
ERRORS = (*DATA_ERRORS, KeyError, TypeError, ImportError)
MAX_NAMED = 10  # damaged samples that are named one by one
PICTURES_AT_ONCE = 8
TOKENS_COUNTED = 100_000_000  # of larger stores, evenly spread shards


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    if args.store:
        if args.config or args.what:
            raise ValueError("give either a config or --store")
        browser = Browser(args, args.tokenizer)
        browser.show_store(args.store, Path(args.store).name)
        return
    if not args.config:
        raise ValueError("give a config, or --store with a token store")
    config = load_config(args.config, args.cfg_options)
    init_default_scope(config.get("default_scope", "delvm_mm"))
    browse(config, args)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", help="config with 'stores', a 'train_dataloader' or 'tasks'")
    parser.add_argument("--store", help="a token store, instead of a config")
    parser.add_argument("--tokenizer", help="folder of the tokenizer; the config's by default")
    parser.add_argument("--what", nargs="+", choices=PARTS, help="what to show; all that the config has by default")
    parser.add_argument("--stores", nargs="+", metavar="NAME", help="only these stores: their 'out', or how it ends")
    parser.add_argument("--task", nargs="+", help="only prompts of these tasks")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="which sentences (train by default)")
    parser.add_argument("--num", type=int, default=16, help="rows of a sheet (16 by default)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice")
    parser.add_argument("--out-dir", help="folder of the sheets; <work_dir of the config>/browse by default")
    parser.add_argument("--device", help="where to decode; by default a GPU if there is one")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override config entries: key=value")
    args = parser.parse_args(arguments)
    if args.num < 1:
        raise ValueError(f"--num must be at least 1, got {args.num}")
    return args


def browse(config: Config, args: argparse.Namespace) -> None:
    """Show the parts of a config that are asked for; without ``--what``, all that it has and that can be shown."""
    dataloader = f"{args.split}_dataloader"
    has = {"stores": config.get("stores"), "sentences": config.get(dataloader), "prompts": config.get("tasks")}
    parts = args.what or [part for part in PARTS if has[part]]
    for part, key in zip(PARTS, ("stores", dataloader, "tasks"), strict=True):
        if part in parts and not has[part]:
            raise ValueError(f"{config.filename} has no '{key}', so there are no {part} to show")
    if not parts:
        raise ValueError(f"{config.filename} has none of 'stores', '{dataloader}' and 'tasks': nothing to show")
    tokenizer = args.tokenizer or config.get("tokenizer") or config.get("model", {}).get("tokenizer")
    browser = Browser(args, tokenizer, config.work_dir)
    show = {
        "stores": lambda: show_stores(browser, config.stores, args.stores),
        "sentences": lambda: show_sentences(browser, config[dataloader]["dataset"], args.split, args.stores),
        "prompts": lambda: show_prompts(browser, config.tasks, args.task),
    }
    errors = [browser.attempt(part, show[part]) for part in parts]
    if args.what:
        browser.end_if(any(errors))
    browser.end_if(all(errors))


class Browser:
    """Writes sheets, decodes tokens, and remembers what could not be shown.

    Args:
        args: The command line.
        tokenizer: As for :func:`load_tokenizer`; loaded when the first token is decoded.
        work_dir: Where the sheets go if the command line does not say.
    """

    def __init__(self, args: argparse.Namespace, tokenizer: Any, work_dir: str = "work_dirs") -> None:
        self.num, self.seed = args.num, args.seed
        self.out_dir = Path(args.out_dir or Path(work_dir) / "browse")
        self.device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.console = Console()
        self._tokenizer = tokenizer
        self._no_tokenizer: str | None = None if tokenizer else "there is no tokenizer: give --tokenizer"
        self._last_error: Exception | None = None

    def attempt(self, name: str, show: Callable[[], None]) -> bool:
        """Show something; if that fails, say why and go on. Returns whether it failed."""
        try:
            show()
        except ERRORS as error:
            print(f"{name}: not shown: {error.args[0] if isinstance(error, KeyError) else error}")
            self._last_error = error
        return self._last_error is not None and sys.exc_info()[0] is None and self._failed(name)

    def choose(self, population: int, number: int | None = None) -> list[int]:
        """Some of the numbers below ``population``, in a random order that follows from the seed."""
        return random.Random(self.seed).sample(range(population), min(population, number or self.num))


if __name__ == "__main__":
    main()
