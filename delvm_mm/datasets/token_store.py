"""Token store: a folder of plain ``.npy`` shards and one ``index.json``, written atomically and read by memory map.

``index.json`` holds::

    format, version           "delvm_mm.token_store", 1
    clip_shape                [k, tokens]: pictures in a clip, tokens in a picture
    grid                      [h, w], row-major, h*w = tokens
    num_embeddings            codebook size; every token is in [0, num_embeddings)
    tokenizer_fingerprint     which tokenizer, with which weights
    task, source, seed, num_augmented_copies
    shard_clips               clips in every shard but the last
    complete, num_clips       whether the last shard is written; clips so far
    shards                    [{file, clips, bytes, sha256}, ...] in order

A shard is a C-ordered ``uint16`` array, clips × k × tokens. Without this package:
``np.load(folder / shard["file"], mmap_mode="r")``.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["INDEX_FILE", "TokenStore", "TokenStoreWriter"]

INDEX_FILE = "index.json"
FORMAT = "delvm_mm.token_store"
VERSION = 1
TOKEN_DTYPE = np.dtype("<u2")

_SETTINGS = (
    "clip_shape",
    "grid",
    "num_embeddings",
    "tokenizer_fingerprint",
    "task",
    "source",
    "seed",
    "num_augmented_copies",
    "shard_clips",
)


class TokenStore:
    """A token store opened for reading; shards are memory-mapped when they are first needed.

    Opening checks the index and that every shard is there with its full size; it reads no tokens.
    :meth:`verify` reads everything.

    Args:
        path: The folder.
        tokenizer_fingerprint: If given, a store made with another tokenizer is refused.

    Attributes:
        path, clip_shape (k, tokens), grid (h, w), num_embeddings, tokenizer_fingerprint, task, source, seed,
        num_augmented_copies, complete: as in the index.

    Raises:
        FileNotFoundError: The folder, its index or a shard is missing.
        ValueError: The index is not one of this format and version, a shard has not the size that the index gives,
            or the fingerprint differs.
    """

    def __init__(self, path: str | Path, tokenizer_fingerprint: str | None = None) -> None:
        self.path = Path(path)
        index = _read_index(self.path)
        self.index = index
        self.clip_shape: tuple[int, int] = tuple(index["clip_shape"])
        self.grid: tuple[int, int] = tuple(index["grid"])
        self.num_embeddings: int = index["num_embeddings"]
        self.tokenizer_fingerprint: str = index["tokenizer_fingerprint"]
        self.task: str = index["task"]
        self.source = index["source"]
        self.seed: int = index["seed"]
        self.num_augmented_copies: int = index["num_augmented_copies"]
        self.complete: bool = index["complete"]
        if tokenizer_fingerprint is not None and tokenizer_fingerprint != self.tokenizer_fingerprint:
            raise ValueError(
                f"{self.path} was made with tokenizer {self.tokenizer_fingerprint!r}, expected "
                f"{tokenizer_fingerprint!r}: its tokens mean other pictures; tokenize the data again"
            )
        for shard in index["shards"]:
            self._check_size(shard)
        # Shard s holds the clips from bounds[s] up to, not including, bounds[s + 1].
        self._bounds = np.cumsum([0] + [shard["clips"] for shard in index["shards"]])
        self._arrays: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """Number of clips."""
        return int(self._bounds[-1])

    def __getitem__(self, clip: int) -> np.ndarray:
        """Tokens of one clip.

        Args:
            clip: Position in the store; negative counts from the end.

        Returns:
            uint16 array k × tokens, a read-only view into the memory-mapped shard.
        """
        number = clip + len(self) if clip < 0 else clip
        if not 0 <= number < len(self):
            raise IndexError(f"clip {clip} of {self.path}, which has {len(self)} clips")
        shard = int(np.searchsorted(self._bounds, number, side="right")) - 1
        return self._array(shard)[number - self._bounds[shard]]

    def __getstate__(self) -> dict:
        """Without the open shards: pickling a memory map, as worker processes may do, would copy its content."""
        return {**self.__dict__, "_arrays": {}}

    def __repr__(self) -> str:
        k, tokens = self.clip_shape
        return f"TokenStore({str(self.path)!r}, task={self.task!r}, {len(self)} clips of {k} x {tokens} tokens)"

    def verify(self) -> None:
        """Read every shard: checksum, type, shape, and that every token is in the codebook.

        Raises:
            ValueError: A shard is not what the index says; the message names it.
        """
        for number, shard in enumerate(self.index["shards"]):
            file = self.path / shard["file"]
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            if digest != shard["sha256"]:
                raise ValueError(
                    f"{file} has sha256 {digest}, {INDEX_FILE} says {shard['sha256']}: "
                    "the file was changed or damaged; copy it again or tokenize the data again"
                )
            largest = int(self._array(number).max())
            if largest >= self.num_embeddings:
                raise ValueError(
                    f"{file} holds token {largest}, but the codebook has {self.num_embeddings} entries: "
                    "the store was made with another tokenizer; tokenize the data again"
                )

    def _array(self, shard: int) -> np.ndarray:
        if shard not in self._arrays:
            entry = self.index["shards"][shard]
            file = self.path / entry["file"]
            self._check_size(entry)
            try:
                array = np.load(file, mmap_mode="r")
            except (ValueError, OSError, EOFError) as error:
                raise ValueError(f"{file} is not a readable .npy file: {error}") from error
            expected = (entry["clips"], *self.clip_shape)
            if array.dtype != TOKEN_DTYPE or array.shape != expected:
                raise ValueError(
                    f"{file} holds {array.dtype} of shape {array.shape}, {INDEX_FILE} says uint16 of shape {expected}"
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
                "it is truncated or was changed; copy it again or tokenize the data again"
            )


class TokenStoreWriter:
    """Writes a token store shard by shard, so that a killed run loses at most one shard and leaves a valid store.

    Each file is written under a temporary name, synced and renamed; the index follows its shard. A store that was
    started with the same settings is continued: look at :attr:`num_clips` for where. One writer at a time.

    Args:
        path: The folder; created with its parents.
        clip_shape: (k, tokens): pictures in a clip, tokens in a picture.
        grid: (h, w) of a picture's tokens, row-major, h*w = tokens.
        num_embeddings: Codebook size, at most 65536.
        tokenizer_fingerprint: Names the tokenizer and its weights.
        task: The one task of all clips, e.g. ``'seg'``.
        source: Where the clips come from: a text or any value that JSON can hold.
        seed: Seed of what was random in making the clips.
        num_augmented_copies: Augmented copies of each original clip that the store holds.
        shard_clips: Clips in a shard.

    Raises:
        FileExistsError: The folder holds something else, or a store with other settings; nothing is overwritten.
        ValueError: The settings contradict each other.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clip_shape: tuple[int, int],
        grid: tuple[int, int],
        num_embeddings: int,
        tokenizer_fingerprint: str,
        task: str,
        source: Any = "",
        seed: int = 0,
        num_augmented_copies: int = 0,
        shard_clips: int = 512,
    ) -> None:
        self.path = Path(path)
        settings = {
            "clip_shape": [int(n) for n in clip_shape],
            "grid": [int(n) for n in grid],
            "num_embeddings": int(num_embeddings),
            "tokenizer_fingerprint": tokenizer_fingerprint,
            "task": task,
            "source": source,
            "seed": seed,
            "num_augmented_copies": num_augmented_copies,
            "shard_clips": int(shard_clips),
        }
        _check_settings(settings)
        self._index = self._open(json.loads(json.dumps(settings)))
        self._pending: list[np.ndarray] = []

    @property
    def num_clips(self) -> int:
        """Clips in the shards on disk; a continued run goes on with this clip."""
        return self._index["num_clips"]

    @property
    def complete(self) -> bool:
        """Whether :meth:`finish` was called, now or in an earlier run."""
        return self._index["complete"]

    def add(self, clips: np.ndarray) -> None:
        """Append clips; a shard is written as soon as it is full.

        Args:
            clips: Integer array N × k × tokens.

        Raises:
            ValueError: Another shape, or a token outside the codebook.
            RuntimeError: The store is complete.
        """
        if self.complete:
            raise RuntimeError(f"{self.path} is complete with {self.num_clips} clips; nothing can be added")
        clips = np.asarray(clips)
        shape = tuple(self._index["clip_shape"])
        if clips.ndim != 3 or clips.shape[1:] != shape or not np.issubdtype(clips.dtype, np.integer):
            raise ValueError(
                f"clips for {self.path} must be integers N x {shape[0]} x {shape[1]}, "
                f"got {clips.dtype} of shape {clips.shape}"
            )
        if clips.size and (clips.min() < 0 or clips.max() >= self._index["num_embeddings"]):
            raise ValueError(
                f"clips for {self.path} hold tokens from {clips.min()} to {clips.max()}, "
                f"but the codebook has {self._index['num_embeddings']} entries"
            )
        self._pending.extend(clips.astype(TOKEN_DTYPE))
        size = self._index["shard_clips"]
        while len(self._pending) >= size:
            self._write_shard(self._pending[:size])
            self._pending = self._pending[size:]

    def finish(self) -> None:
        """Write the clips that are left as a last, smaller shard and mark the store as complete."""
        if self._pending:
            self._write_shard(self._pending)
            self._pending = []
        if not self.complete:
            self._index["complete"] = True
            self._write_index()

    def _open(self, settings: dict) -> dict:
        if (self.path / INDEX_FILE).exists():
            index = _read_index(self.path)
            different = [key for key in _SETTINGS if index[key] != settings[key]]
            if different:
                raise FileExistsError(
                    f"{self.path} holds a token store with other settings: "
                    + "; ".join(f"{key} is {index[key]!r}, now {settings[key]!r}" for key in different)
                    + ". Nothing was changed: write to another folder, or delete this one first"
                )
            for leftover in self.path.glob(".*.tmp"):
                leftover.unlink()
            return index
        if self.path.exists():
            if not self.path.is_dir():
                raise FileExistsError(f"{self.path} is a file: expected a folder for the token store")
            others = [entry.name for entry in self.path.iterdir() if not entry.name.endswith(".tmp")]
            if others:
                raise FileExistsError(
                    f"{self.path} has no {INDEX_FILE} but holds {sorted(others)[:3]}: "
                    "choose an empty or new folder for the token store"
                )
        self.path.mkdir(parents=True, exist_ok=True)
        index = dict(format=FORMAT, version=VERSION, **settings, complete=False, num_clips=0, shards=[])
        self._index = index
        # Before any shard, so that a folder with shards always says what they are.
        self._write_index()
        return index

    def _write_shard(self, clips: list[np.ndarray]) -> None:
        buffer = io.BytesIO()
        np.save(buffer, np.stack(clips))
        content = buffer.getvalue()
        name = f"shard-{len(self._index['shards']):06d}.npy"
        _write_atomically(self.path / name, content)
        self._index["shards"].append(
            {"file": name, "clips": len(clips), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        )
        self._index["num_clips"] += len(clips)
        self._write_index()

    def _write_index(self) -> None:
        _write_atomically(self.path / INDEX_FILE, (json.dumps(self._index, indent=1) + "\n").encode())


def _check_settings(settings: Mapping[str, Any]) -> None:
    (k, tokens), (h, w) = settings["clip_shape"], settings["grid"]
    if k < 1 or tokens < 1 or h * w != tokens:
        raise ValueError(
            f"clip_shape {(k, tokens)} and grid {(h, w)} contradict: expected tokens = h * w, all positive"
        )
    if not 1 <= settings["num_embeddings"] <= 65536:
        raise ValueError(f"num_embeddings {settings['num_embeddings']} does not fit uint16 tokens: expected 1 to 65536")
    if settings["shard_clips"] < 1:
        raise ValueError(f"shard_clips must be at least 1, got {settings['shard_clips']}")


def _read_index(folder: Path) -> dict:
    """The index of a store, checked for its format, version and keys."""
    file = folder / INDEX_FILE
    if not folder.is_dir():
        raise FileNotFoundError(f"no token store at {folder}: make it with tools/tokenize_dataset.py")
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no {INDEX_FILE}: it is not a token store, or was not copied completely")
    try:
        index = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON ({error}): copy it again or tokenize the data again") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"{file} is not the index of a token store: expected 'format': {FORMAT!r}")
    if index.get("version") != VERSION:
        raise ValueError(
            f"{file} has format version {index.get('version')!r}, this package reads version {VERSION}: "
            "use the package version that wrote it, or tokenize the data again"
        )
    missing = [key for key in (*_SETTINGS, "complete", "num_clips", "shards") if key not in index]
    missing += [
        f"shards[{n}].{key}"
        for n, shard in enumerate(index.get("shards", []))
        for key in ("file", "clips", "bytes", "sha256")
        if key not in shard
    ]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing[:5])}: copy it again or tokenize the data again")
    return index


def _write_atomically(file: Path, content: bytes) -> None:
    """Write so that, whenever the process or the machine stops, ``file`` is its old self or complete."""
    temporary = file.with_name(f".{file.name}.tmp")
    with open(temporary, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
