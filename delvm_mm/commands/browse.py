"""Draws the sheets of ``delvm browse``."""

import argparse
import os
import random
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table
from rich.text import Text

from delvm_mm.commands.parsers.browse import PARTS, make_parser
from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.datasets.seeded_clips import DATA_ERRORS, SeededClips, Unreadable
from delvm_mm.engine.launch import load_config, user_errors
from delvm_mm.hardware import choose_device
from delvm_mm.models import load_tokenizer
from delvm_mm.models.tokenizers.images import to_uint8
from delvm_mm.progress import tracked
from delvm_mm.registry import DATASETS
from delvm_mm.stores import TokenStore
from delvm_mm.stores.selection import select_stores
from delvm_mm.stores.store_summary import first_errors, store_summary
from delvm_mm.stores.token_store import INDEX_FILE
from delvm_mm.visualization import draw_panel, stack_panels, write_image
from delvm_mm.visualization.sheets import draw_row

ERRORS = (*DATA_ERRORS, KeyError, TypeError, ImportError)
MAX_IN_ROW = 8  # images; raw and decoded ones stand under each other if they are more
IMAGES_AT_ONCE = 8  # for the tokenizer
CAPTIONS = {1: ("image",), 2: ("image", "label")}


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    if args.num < 1:
        raise ValueError(f"--num must be at least 1, got {args.num}")
    if bool(args.config) == bool(args.store):
        raise ValueError("give either a config or --store with the folder of a token store")
    if args.store:
        name = Path(args.store).resolve().name
        show_store(Browser(args, args.tokenizer, name), args.store, name)
        return
    config = load_config(args.config, args.cfg_options)
    init_default_scope(config.get("default_scope", "delvm_mm"))
    browse(config, args)


def browse(config: Config, args: argparse.Namespace) -> None:
    """Show what is asked for; without ``--what``, all that the config has and that can be shown."""
    dataloader = f"{args.split}_dataloader"
    keys = {"stores": "stores", "sentences": dataloader, "prompts": "tasks"}
    parts = args.what or [part for part in PARTS if config.get(keys[part])]
    if not parts:
        raise ValueError(f"{args.config} has none of {', '.join(keys.values())}: nothing to show")
    for part in parts:
        if not config.get(keys[part]):
            raise ValueError(f"{args.config} has no '{keys[part]}', so there are no {part} to show")
    tokenizer = args.tokenizer or config.get("tokenizer") or config.get("model", {}).get("tokenizer")
    browser = Browser(args, tokenizer, Path(args.config).stem)
    show = {
        "stores": lambda: show_stores(browser, config.stores, args.stores),
        "sentences": lambda: show_sentences(browser, config[dataloader]["dataset"], args.split, args.stores),
        "prompts": lambda: show_prompts(browser, config.tasks, args.task),
    }
    for_all(parts, lambda part: show[part](), stop=bool(args.what))


def for_all(names: Iterable[str], show: Callable[[str], None], stop: bool = False) -> None:
    """Show one after another; what fails is named, and is an error only if all fail, or with ``stop``."""
    errors, names = [], list(names)
    for name in names:
        try:
            show(name)
        except ERRORS as error:
            if stop or len(errors) == len(names) - 1:
                raise
            print(f"{name}: not shown: {message_of(error)}")
            errors.append(error)


def message_of(error: Exception) -> str:
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()


class Browser:
    """What the parts share: how much to show and where, the choice, and the tokenizer, loaded when it is needed.

    Args:
        args: The command line.
        tokenizer: As for :func:`load_tokenizer`, or None.
        name: Of the folder for the sheets, unless the command line gives one.
    """

    def __init__(self, args: argparse.Namespace, tokenizer: Any, name: str) -> None:
        self.num = args.num
        self.seed = args.seed
        self.out_dir = Path(args.out_dir or os.path.join("work_dirs", "browse", name))
        self.device = choose_device(args.device)
        self._given = tokenizer
        self._tokenizer: Any = None
        self._missing = "" if tokenizer else "no tokenizer is known; give --tokenizer"

    def choose(self, population: int, number: int) -> list[int]:
        """Different numbers below ``population`` in random order, the same for the same seed."""
        return random.Random(self.seed).sample(range(population), min(population, number))

    def save(self, name: str, rows: Sequence[np.ndarray], what: str) -> None:
        """Write a sheet."""
        self.out_dir.mkdir(parents=True, exist_ok=True)
        path = self.out_dir / f"{name}.png"
        write_image(path, stack_panels(rows))
        print(f"{path}: {what}")

    def why_not_decoded(self, store: TokenStore) -> str:
        """Why the tokens of a store cannot be shown as images; empty if they can."""
        if self._tokenizer is None and not self._missing:
            try:
                self._tokenizer = load_tokenizer(self._given).to(self.device)
            except ERRORS as error:
                self._missing = message_of(error)
        if self._missing:
            return self._missing
        if self._tokenizer.fingerprint != store.tokenizer_fingerprint:
            return (
                f"it was made with tokenizer {store.tokenizer_fingerprint!r}, this one is "
                f"{self._tokenizer.fingerprint!r}; name the right one with --tokenizer"
            )
        if not len(store):
            return "it has no clips yet"
        if store.grid[0] == 1 < store.grid[1]:
            return f"its rows of {store.grid[1]} tokens are no images"
        return ""

    @torch.inference_mode()
    def decode(self, tokens: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """Images of tokens: integers N x (h*w) to uint8 N x H x W x 3."""
        images = []
        for start in range(0, len(tokens), IMAGES_AT_ONCE):
            part = torch.from_numpy(tokens[start : start + IMAGES_AT_ONCE].astype(np.int64)).to(self.device)
            images.extend(to_uint8(self._tokenizer.decode(part, grid, check=True)))
        return np.stack(images)


def show_stores(browser: Browser, stores: Sequence[dict], only: Sequence[str] | None) -> None:
    """Sheets of the clips that a config makes token stores of, and of the stores where they have been made."""
    outs = [str(store["out"]) for store in stores]
    wanted = select_stores(outs, only)
    names = dict(zip(outs, short_names(outs), strict=True))

    def show(out: str) -> None:
        entry = stores[outs.index(out)]
        made = (Path(out) / INDEX_FILE).is_file()
        clips, raw = None, {}
        try:
            clips = SeededClips(
                DATASETS.build(entry["dataset"]),
                entry.get("seed", entry["dataset"].get("seed") or 0),
                max(entry.get("num_augmented_copies", 0), 1),
                entry.get("task"),
            )
            raw = show_clips(browser, clips, f"{names[out]}_raw")
        except ERRORS as error:
            if not made:
                raise
            print(f"{out}: no sheet of raw data: {message_of(error)}")
        if made:
            show_store(browser, out, names[out], clips, raw)
        else:
            print(f"{out}: not tokenized yet")

    for_all(wanted, show)


def show_clips(browser: Browser, clips: SeededClips, name: str) -> dict[int, tuple[str, np.ndarray]]:
    """A sheet of raw clips; returns what it shows: number of the clip -> its title and images k x H x W x 3."""
    readable, damaged = {}, []
    # Damaged ones are replaced by others, but where most are damaged, not all are tried.
    for clip in track(browser.choose(len(clips), 2 * browser.num), name):
        if len(readable) == browser.num:
            break
        sample = clips[clip]
        if isinstance(sample, Unreadable):
            damaged.append(sample.error)
            continue
        title = f"{clip}: {name_of(sample['data_samples'])}"
        readable[clip] = title, sample["inputs"].permute(0, 2, 3, 1).numpy()
    print_damaged(damaged)
    if not readable:
        raise ValueError(
            f"none of {len(damaged)} samples can be read; the last one: {damaged[-1]}"
            if damaged
            else "the data set is empty"
        )
    readable = dict(sorted(readable.items()))
    rows = [draw_row([captioned(images)], title) for title, images in readable.values()]
    browser.save(name, rows, f"{len(rows)} of {len(clips)} clips, raw")
    return readable


def show_store(
    browser: Browser,
    path: str,
    name: str,
    clips: SeededClips | None = None,
    raw: dict[int, tuple[str, np.ndarray]] | None = None,
) -> None:
    """Summary of a token store, and a sheet decoded from it, beside the raw clips where they are known."""
    store = TokenStore(path)
    print_summary(store)
    if why := browser.why_not_decoded(store):
        print(f"{path}: no decoded sheet: {why}")
        return
    shown = {}
    if raw and is_made_of(store, clips):
        skipped = sorted(entry["clip"] for entry in store.skipped)
        shown = {clip - bisect_left(skipped, clip): entry for clip, entry in raw.items() if clip not in skipped}
    elif raw:
        print(f"{path}: unfinished, or made of other data or settings than the config's: shown without raw clips")
    rows = []
    for position in track(list(shown) or sorted(browser.choose(len(store), browser.num)), name):
        decoded = browser.decode(store[position], store.grid)
        title, images = shown.get(position, (f"clip {position}", None))
        groups = [captioned(decoded, " decoded")]
        if images is None:
            rows.append(draw_row(groups, title))
        elif 2 * len(decoded) <= MAX_IN_ROW and images.shape == decoded.shape:
            rows.append(draw_row([captioned(images), *groups], title))
        else:
            rows += [draw_row([captioned(images)], title), draw_row(groups)]
    browser.save(f"{name}_decoded", rows, f"{len(shown) or len(rows)} of {len(store)} clips, from their tokens")


def is_made_of(store: TokenStore, clips: SeededClips) -> bool:
    """Whether clip after clip of the store, but those skipped, is that of the data."""
    return (
        store.complete
        and store.seed == clips.seed
        and max(store.num_augmented_copies, 1) == clips.copies
        and len(store) + len(store.skipped) == len(clips)
    )


def show_sentences(browser: Browser, dataset_config: dict, split: str, only: Sequence[str] | None) -> None:
    """A sheet of visual sentences, some of every store; or of clips, where training is on images."""
    dataset = DATASETS.build(dataset_config)
    if not isinstance(dataset, VisualSentenceDataset):
        show_clips(browser, SeededClips(dataset, 0, 1), f"{split}_raw")
        return
    paths = [str(store.path) for store in dataset.stores]
    wanted = select_stores(paths, only)
    for path in dict.fromkeys(wanted):
        print_summary(TokenStore(path))
    if why := browser.why_not_decoded(dataset.stores[0]):
        raise ValueError(f"sentences cannot be shown: {dataset.stores[0].path}: {why}")
    indices = []
    for turn, path in enumerate(dict.fromkeys(wanted)):
        number = paths.index(path)
        share = max(1, (browser.num - turn - 1) // len(set(wanted)) + 1)
        first = sum(dataset.sentences_per_store[:number])
        indices += [first + one for one in sorted(browser.choose(dataset.sentences_per_store[number], share))]
    rows = []
    for index in track(indices, "sentences", "sentences"):
        sentence = dataset[index]
        info = sentence["data_samples"]
        k, tokens = info.clip_shape
        images = browser.decode(sentence["inputs"].view(-1, tokens).numpy(), dataset.grid)
        groups = [captioned(clip, f" {number + 1}") for number, clip in enumerate(np.split(images, len(images) // k))]
        rows.append(draw_row(groups, f"{info.task}, sentence {info.sentence} of epoch 0"))
    browser.save(f"sentences_{split}", rows, f"{len(rows)} of {len(dataset)} sentences of an epoch, from their tokens")


def show_prompts(browser: Browser, tasks: dict, only: Sequence[str] | None) -> None:
    """A sheet of prompts, queries and true answers for each task."""
    if unknown := set(only or ()) - set(tasks):
        raise ValueError(f"--task: the config has no task {sorted(unknown)}, it has {list(tasks)}")

    def show(task: str) -> None:
        dataset = DATASETS.build(tasks[task]["dataloader"]["dataset"])
        rows, damaged = {}, []
        for index in track(browser.choose(len(dataset), 2 * browser.num), task):
            if len(rows) == browser.num:
                break
            try:
                sample = dataset[index]["data_samples"]
            except DATA_ERRORS as error:
                damaged.append(str(error))
                continue
            rows[index] = draw_panel(
                sample.prompt_images,
                sample.query_image,
                truth=sample.label_image,
                title=f"{sample.task} {index}: {name_of(sample)}",
            )
        print_damaged(damaged)
        if not rows:
            raise ValueError(f"none of {len(damaged)} prompts can be read; the last one: {damaged[-1]}")
        browser.save(
            f"prompts_{task}", [rows[index] for index in sorted(rows)], f"{len(rows)} of {len(dataset)} prompts"
        )

    for_all(only or tasks, show)


def print_summary(store: TokenStore) -> None:
    """What a store holds, as a table."""
    table = Table(title=str(store.path), title_justify="left", show_header=False)
    for name, text in store_summary(store, lambda shards: track(shards, "tokens", "shards")).items():
        table.add_row(name, Text(text))
    Console().print(table)


def short_names(folders: Sequence[str]) -> list[str]:
    """File names for folders: what differs between them."""
    absolute = [os.path.abspath(folder) for folder in folders]
    common = os.path.commonpath([os.path.dirname(folder) for folder in absolute])
    return ["-".join(Path(os.path.relpath(folder, common)).parts) for folder in absolute]


def captioned(images: np.ndarray, suffix: str = "") -> list[tuple[str, np.ndarray]]:
    """Tiles of the images k x H x W x 3 of a clip."""
    captions = CAPTIONS.get(len(images)) or [f"frame {number + 1}" for number in range(len(images))]
    return [(caption + suffix, image) for caption, image in zip(captions, images, strict=True)]


def name_of(sample: Any) -> str:
    """What a sample is called: the last parts of its file's path, or its name."""
    path = sample.get("img_path", None)
    return "/".join(Path(str(path)).parts[-2:]) if path else str(sample.get("name", None) or "")


def print_damaged(errors: Sequence[str]) -> None:
    for line in first_errors(errors):
        print(f"damaged: {line}")


def track(sequence: Sequence[Any], name: str, unit: str = "images") -> Iterable[Any]:
    return tracked(sequence, name, unit, transient=True)


if __name__ == "__main__":
    main()
