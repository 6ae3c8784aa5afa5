"""Makes the token stores of ``delvm tokenize``."""

import json
import os
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import init_default_scope

from delvm_mm.commands.parsers.tokenize import make_parser
from delvm_mm.engine.launch import load_config, user_errors
from delvm_mm.models import load_tokenizer
from delvm_mm.precompute import tokenize_clips
from delvm_mm.precompute.long_runs import processes_of_torchrun
from delvm_mm.progress import progress_of
from delvm_mm.registry import DATASETS
from delvm_mm.stores.selection import select_stores
from delvm_mm.stores.store_summary import first_errors

STORE_KEYS = ("dataset", "out", "task", "source", "seed", "num_augmented_copies", "shard_clips")
TOKENIZATION_KEYS = ("batch_clips", "num_workers", "shard_clips", "precision")


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    config = load_config(args.config, args.cfg_options)
    with processes_of_torchrun() as device:
        tokenize_stores(config, args.device or device, args.on_error, args.stores)


def tokenize_stores(
    config: Config, device: str | None = None, on_error: str = "stop", only: Sequence[str] | None = None
) -> None:
    """Tokenize each store of a config, one after another."""
    init_default_scope(config.get("default_scope", "delvm_mm"))
    for key in ("tokenizer", "stores"):
        if not config.get(key):
            raise ValueError(
                f"no {key!r} in the config; it defines tokenizer = ... and stores = [dict(dataset, out), ...]"
            )
    options = dict(config.get("tokenization", {}))
    _check_keys(options, "tokenization", TOKENIZATION_KEYS)
    options.setdefault("num_workers", _default_num_workers())
    stores = [dict(store) for store in config.stores]
    for number, store in enumerate(stores):
        _check_keys(store, f"stores[{number}]", STORE_KEYS, required=("dataset", "out"))
    names = [store["out"] for store in stores]
    only = select_stores(names, only or None)
    tokenizer = load_tokenizer(config.tokenizer)
    stores = [store for store in stores if store["out"] in only]
    # All before the first: a folder that is missing should not be found out after days.
    datasets = [DATASETS.build(store["dataset"]) for store in stores]
    for store, dataset in zip(stores, datasets, strict=True):
        dataset_config, out = store.pop("dataset"), store.pop("out")
        store.setdefault("source", json.loads(json.dumps(dataset_config, default=_plain)))
        store.setdefault("seed", dataset_config.get("seed") or 0)
        _tokenize_store(dataset, tokenizer, out, options | store | dict(device=device, on_error=on_error))


def _tokenize_store(dataset: Any, tokenizer: Any, out: str, options: dict) -> None:
    shown = []  # clips done, at each report
    with progress_of(out, "clips") as show:

        def report(done: int, total: int) -> None:
            shown.append(done)
            show(done, total)

        store = tokenize_clips(dataset, tokenizer, out, progress=report, **options)
    if not is_main_process():
        return
    skipped = f", {len(store.skipped)} skipped" if store.skipped else ""
    if shown[0] == shown[-1]:
        again = "; delete the store to try these again" if store.skipped else ""
        print(f"{out}: finished before, nothing to do ({len(store)} clips{skipped}{again})")
        return
    resumed = f", the first {shown[0]} by an earlier run" if shown[0] else ""
    print(f"{out}: {len(store)} clips of {store.clip_shape[0]} x {store.clip_shape[1]} tokens{skipped}{resumed}")
    for line in first_errors([f"clip {entry['clip']}: {entry['error']}" for entry in store.skipped]):
        print(f"  {line}")


def _check_keys(given: dict, name: str, known: tuple[str, ...], required: tuple[str, ...] = ()) -> None:
    missing = [key for key in required if key not in given]
    unknown = [key for key in given if key not in known]
    if missing or unknown:
        raise ValueError(
            f"{name} "
            + " and ".join([f"lacks {missing}"] * bool(missing) + [f"has unknown keys {unknown}"] * bool(unknown))
            + f"; it may have {', '.join(known)}"
        )


def _default_num_workers() -> int:
    """A core stays free for the process that encodes; beyond 8, readers seldom are what is waited for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores - 1, 1), 8)


def _plain(value: Any) -> str:
    """Config values that JSON does not know, by a name that is the same in every run."""
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else str(value)


if __name__ == "__main__":
    main()
