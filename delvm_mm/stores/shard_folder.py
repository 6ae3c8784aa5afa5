"""A folder of ``.npy`` shards and one ``index.json``: what token stores and teacher caches have in common.

While such a folder is being made, by one process or several, each finished shard has a journal beside it,
``shard-000000.json``: its entry of the index. The last step puts all of them into the index and removes them.
``shard_folder_writer.py`` writes these folders, ``shard_runs.py`` shares the work between processes.
"""

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

__all__ = ["INDEX_FILE", "ShardFolder", "ShardFormat"]

INDEX_FILE = "index.json"
FEW_SHARDS = 32
"""Folders of more raise the limit of open files, as a mapped file counts as open."""

MIN_SHARD_BYTES, MAX_SHARD_BYTES = 2**19, 2**24
MIN_SHARDS = 64


@dataclass(frozen=True)
class ShardFormat:
    """What tells one kind of folder from another.

    Args:
        name: ``format`` of the index.
        version: ``version`` of the index.
        kind: What people call it, for messages.
        items: What a shard has many of, such as 'clips'. The index has ``num_<items>``, ``shard_<items>`` (in every
            shard but the last) and ``source_<items>`` (that there are to be; null where it is not known).
        settings: Entries of the index that a run which continues has to agree with.
        tool: The command that makes such folders.
        remedy: What to do about a damaged one.
        defaults: Values of entries that folders of earlier versions of this package lack.
        unknown: Of ``defaults``, the values that agree with anything.
    """

    name: str
    version: int
    kind: str
    items: str
    settings: tuple[str, ...]
    tool: str
    remedy: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    unknown: Mapping[str, Any] = field(default_factory=dict)


class ShardFolder:
    """Such a folder opened for reading; shards are memory-mapped when they are first needed.

    Opening checks the index and that every shard is there with its full size; it reads no shard. A subclass sets
    ``format`` and says in :meth:`_item` what a shard is an array of.

    Args:
        path: The folder.

    Raises:
        FileNotFoundError: The folder, its index or a shard is missing.
        ValueError: The index is not one of this format and version, or a shard has not the size that the index gives.
    """

    format: ClassVar[ShardFormat]

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.index = read_index(self.path, self.format)
        self.complete: bool = self.index["complete"]
        for shard in self.index["shards"]:
            self._check_size(shard)
        if len(self.index["shards"]) > FEW_SHARDS:
            raise_file_limit()
        # Shard s holds the items from bounds[s] up to, not including, bounds[s + 1].
        self._bounds = [0, *accumulate(shard[self.format.items] for shard in self.index["shards"])]
        self._arrays: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """Number of items in the shards."""
        return self._bounds[-1]

    def __getstate__(self) -> dict:
        """Without the open shards: pickling a memory map, as worker processes may do, would copy its content."""
        return {**self.__dict__, "_arrays": {}}

    def verify(self) -> None:
        """Read every shard: checksum, type, shape and values.

        Raises:
            ValueError: A shard is not what the index says; the message names it.
        """
        for number, shard in enumerate(self.index["shards"]):
            file = self.path / shard["file"]
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            if digest != shard["sha256"]:
                raise ValueError(
                    f"{file} has sha256 {digest}, {INDEX_FILE} says {shard['sha256']}: "
                    f"the file was changed or damaged; copy it again or {self.format.remedy}"
                )
            self._check_values(file, self._array(number))

    def _item(self) -> tuple[np.dtype, tuple[int, ...]]:
        """Type and shape of one item of a shard's array."""
        raise NotImplementedError

    def _check_values(self, file: Path, array: np.ndarray) -> None:
        """Raise a ``ValueError`` for values that cannot be."""

    def _place(self, item: int) -> tuple[int, int]:
        """The shard of an item, and its row in it."""
        shard = bisect_right(self._bounds, item) - 1
        return shard, item - self._bounds[shard]

    def _array(self, shard: int) -> np.ndarray:
        if shard not in self._arrays:
            entry = self.index["shards"][shard]
            file = self.path / entry["file"]
            self._check_size(entry)
            try:
                array = np.load(file, mmap_mode="r")
            except (ValueError, EOFError) as error:
                raise ValueError(f"{file} is not a readable .npy file: {error}") from error
            dtype, shape = self._item()
            expected = (entry[self.format.items], *shape)
            if array.dtype != dtype or array.shape != expected:
                raise ValueError(
                    f"{file} holds {array.dtype} of shape {array.shape}, {INDEX_FILE} says {dtype} of shape {expected}"
                )
            self._arrays[shard] = array
        return self._arrays[shard]

    def _check_size(self, shard: Mapping[str, Any]) -> None:
        file = self.path / shard["file"]
        if not file.is_file():
            raise FileNotFoundError(f"shard {file} is missing: {INDEX_FILE} names it; copy the whole folder again")
        size = file.stat().st_size
        if size != shard["bytes"]:
            raise ValueError(
                f"shard {file} has {size} bytes, {INDEX_FILE} says {shard['bytes']}: "
                f"it is truncated or was changed; copy it again or {self.format.remedy}"
            )


def default_shard_size(item_bytes: int, total: int | None) -> int:
    """Items in a shard where nothing else is asked for: 16 MiB of them.

    Of data that fill fewer than 64 such shards it is a 64th part, at least 512 KiB, so that many processes share the
    work and a run that is killed loses little of it.

    Args:
        item_bytes: Size of an item.
        total: Items in all, None where it is not known.

    Returns:
        At least 1.
    """
    largest = max(1, MAX_SHARD_BYTES // item_bytes)
    if total is None:
        return largest
    return min(largest, max(math.ceil(total / MIN_SHARDS), MIN_SHARD_BYTES // item_bytes, 1))


def raise_file_limit() -> None:
    """Allow this process as many open files as the system lets it: large folders have hundreds of shards."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.npy"


def number_of(file: str) -> int:
    return int(file.removeprefix("shard-").removesuffix(".npy"))


def journals(folder: Path) -> dict[int, dict]:
    """Journals of the finished shards of an unfinished folder, by number."""
    read = {}
    for file in sorted(folder.glob("shard-*.json")):
        try:
            journal = json.loads(file.read_bytes())
            read[number_of(journal["file"])] = journal
        except FileNotFoundError:  # put into the index meanwhile
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is damaged ({error}): delete it, and its shard is made again") from error
    return read


def with_journals(folder: Path, index: dict, items: str) -> dict:
    """The index of an unfinished folder with the shards finished so far."""
    shards = {number_of(shard["file"]): shard for shard in index["shards"]}
    skipped = list(index.get("skipped", ()))
    for number, journal in journals(folder).items():
        if number not in shards:
            skipped += journal.get("skipped", ())
            shards[number] = {key: value for key, value in journal.items() if key != "skipped"}
    ordered = [shards[number] for number in sorted(shards)]
    merged = index | {f"num_{items}": sum(shard[items] for shard in ordered), "shards": ordered}
    if "skipped" in index:
        merged["skipped"] = sorted(skipped, key=lambda entry: entry[items.removesuffix("s")])
    return merged


def read_index(folder: Path, form: ShardFormat) -> dict:
    """The index of a folder, checked for its format, version and keys."""
    file = folder / INDEX_FILE
    if not folder.is_dir():
        raise FileNotFoundError(f"no {form.kind} at {folder}: make it with {form.tool}")
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no {INDEX_FILE}: it is not a {form.kind}, or was not copied completely")
    try:
        index = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON ({error}): copy it again or {form.remedy}") from error
    if not isinstance(index, dict) or index.get("format") != form.name:
        raise ValueError(f"{file} is not the index of a {form.kind}: expected 'format': {form.name!r}")
    if index.get("version") != form.version:
        raise ValueError(
            f"{file} has format version {index.get('version')!r}, this package reads version {form.version}: "
            f"use the package version that wrote it, or {form.remedy}"
        )
    for key, value in form.defaults.items():
        index.setdefault(key, value)
    missing = [key for key in _needed(form) if key not in index]
    missing += [
        f"shards[{n}].{key}"
        for n, shard in enumerate(index.get("shards", []))
        for key in ("file", form.items, "bytes", "sha256")
        if key not in shard
    ]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing[:5])}: copy it again or {form.remedy}")
    return index if index["complete"] else with_journals(folder, index, form.items)


def _needed(form: ShardFormat) -> Iterator[str]:
    yield from form.settings
    yield from ("complete", f"num_{form.items}", "shards")
