"""Writing a folder of shards so that a process that is killed, at whatever moment, leaves one that can be continued."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from delvm_mm.checkpoints import files
from delvm_mm.stores.shard_folder import (
    INDEX_FILE,
    ShardFormat,
    default_shard_size,
    journals,
    number_of,
    read_index,
    shard_name,
    with_journals,
)

__all__ = ["ShardFolderWriter", "remove_leftovers"]


class ShardFolderWriter:
    """Writes a folder shard by shard, so that a killed run loses at most one shard and leaves a valid folder.

    Each file is written under a temporary name, synced and renamed; the journal of a shard follows the shard. A folder
    that was started with the same settings is continued. Several processes write shards of their own, and one of them
    ends with :meth:`finish`; the first has to have opened the folder before the others do. A subclass sets ``format``.

    Args:
        path: The folder; created with its parents.
        settings: The entries of the index that ``format.settings`` names; values that JSON can hold. The size of a
            shard may be None: as :func:`default_shard_size`, or what a folder that is continued has.
        item_bytes: Size of an item, for that.
        extra: Further entries of a new index, after the settings.

    Raises:
        FileExistsError: The folder holds something else, or was made with other settings; nothing is overwritten.
    """

    format: ClassVar[ShardFormat]

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, Any],
        item_bytes: int,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.item_bytes = item_bytes
        self._index = self._open(json.loads(json.dumps(dict(settings))), dict(extra or {}))

    @property
    def shard_size(self) -> int:
        """Items in every shard but the last."""
        return self._index[f"shard_{self.format.items}"]

    @property
    def num_items(self) -> int:
        """Items in the shards on disk, as far as this process knows."""
        return self._index[f"num_{self.format.items}"]

    @property
    def complete(self) -> bool:
        """Whether :meth:`finish` was called, now or in an earlier run."""
        return self._index["complete"]

    def finished_shards(self) -> dict[int, int]:
        """Numbers of the shards on disk, of all processes -> items of the data they stand for, skipped ones counted."""
        items = self.format.items
        index = self._index if self.complete else with_journals(self.path, self._index, items)
        finished = {number_of(shard["file"]): shard[items] for shard in index["shards"]}
        for entry in index.get("skipped", ()):
            finished[entry[items.removesuffix("s")] // self.shard_size] += 1
        return finished

    def finish(self) -> None:
        """Mark the folder as complete.

        Raises:
            RuntimeError: A shard between others is missing, or items at the end, of those that there are to be.
        """
        if not self.complete:
            items = self.format.items
            index = with_journals(self.path, self._index, items)
            numbers = [number_of(shard["file"]) for shard in index["shards"]]
            if numbers != list(range(len(numbers))):
                raise RuntimeError(f"{self.path} has the shards {numbers}: one between them was not written")
            found, expected = index[f"num_{items}"] + len(index.get("skipped", ())), index[f"source_{items}"]
            if expected not in (None, found):
                raise RuntimeError(f"{self.path} has {found} of {expected} {items}: its last shards were not written")
            index["complete"] = True
            write_json(self.path / INDEX_FILE, index)
            self._index = index
        for journal in journals(self.path):
            (self.path / shard_name(journal)).with_suffix(".json").unlink(missing_ok=True)

    def _write_array(self, number: int, array: np.ndarray, notes: Mapping[str, Any] | None = None) -> None:
        """Write one shard and then its journal, with ``notes`` besides its entry of the index."""
        self._check_unfinished()
        buffer = io.BytesIO()
        np.save(buffer, array)
        content = buffer.getvalue()
        file = self.path / shard_name(number)
        entry = {
            "file": file.name,
            self.format.items: len(array),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        write_atomically(file, content)
        write_json(file.with_suffix(".json"), entry | dict(notes or {}))
        self._index[f"num_{self.format.items}"] += len(array)

    def _check_unfinished(self) -> None:
        if self.complete:
            raise RuntimeError(
                f"{self.path} is complete with {self.num_items} {self.format.items}; nothing can be added"
            )

    def _comparable(self, key: str, value: Any) -> Any:
        """What of a setting has to agree when a folder is continued."""
        return value

    def _open(self, settings: dict, extra: dict) -> dict:
        form, size = self.format, f"shard_{self.format.items}"
        if (self.path / INDEX_FILE).exists():
            index = read_index(self.path, form)
            different = [
                key
                for key in form.settings
                if (key, settings[key]) != (size, None)
                and self._comparable(key, index[key]) != self._comparable(key, settings[key])
                and index[key] != form.unknown.get(key, ())
            ]
            if different:
                raise FileExistsError(
                    f"{self.path} holds a {form.kind} with other settings: "
                    + "; ".join(f"{key} is {index[key]!r}, now {settings[key]!r}" for key in different)
                    + (". The data set has changed since" if set(different) & set(form.unknown) else "")
                    + ". Nothing was changed: write to another folder, or delete this one first"
                )
            return index
        if self.path.exists():
            if not self.path.is_dir():
                raise FileExistsError(f"{self.path} is a file: expected a folder for the {form.kind}")
            others = [entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")]
            if others:
                raise FileExistsError(
                    f"{self.path} has no {INDEX_FILE} but holds {sorted(others)[:3]}: "
                    f"choose an empty or new folder for the {form.kind}"
                )
        self.path.mkdir(parents=True, exist_ok=True)
        state = {"complete": False, f"num_{form.items}": 0, "shards": [], **extra}
        if settings[size] is None:
            settings[size] = default_shard_size(self.item_bytes, settings[f"source_{form.items}"])
        index = {"format": form.name, "version": form.version, **settings, **state}
        # Before any shard, so that a folder with shards always says what they are.
        write_json(self.path / INDEX_FILE, index)
        return index


def remove_leftovers(path: Path) -> None:
    """Remove half-written files of a killed run; no other process may be writing."""
    for leftover in path.glob(".*.tmp"):
        leftover.unlink()


def write_json(file: Path, content: dict) -> None:
    write_atomically(file, (json.dumps(content, indent=1) + "\n").encode())


def write_atomically(file: Path, content: bytes) -> None:
    """As :func:`delvm_mm.checkpoints.files.write_atomically`, with an error that says how a run goes on."""
    try:
        files.write_atomically(file, content)
    except OSError as error:
        raise OSError(
            f"cannot write {file}: {error.strerror or error}; what was written before is kept: "
            "make room or give permission, and run again"
        ) from error
