"""Token store: a folder of plain ``.npy`` shards and one ``index.json``, written atomically and read by memory map.

``index.json`` holds::

    format, version           "delvm_mm.token_store", 1
    clip_shape                [k, tokens]: pictures in a clip, tokens in a picture
    grid                      [h, w], row-major, h*w = tokens
    num_embeddings            codebook size; every token is in [0, num_embeddings)
    tokenizer_fingerprint     which tokenizer, with which weights
    precision                 of the encoder, "float32" or "bfloat16"; the latter rounds some tokens to a neighbour
    task, source, seed, num_augmented_copies
    shard_clips               clips in every shard but the last, those counted that were skipped
    source_clips              clips that the data has, those counted that were skipped; null where it is not known
    source_digest             of the names of the data's samples; "" where it is not known
    complete, num_clips       whether all shards are written; clips in them
    shards                    [{file, clips, bytes, sha256}, ...] in order
    skipped                   [{clip, error}, ...]: clips of the data that could not be read and are not in the shards

While a store is being made, by one process or several, each finished shard has a journal beside it,
``shard-000000.json``: its entry of the index. The last step puts all of them into the index and removes them.

A shard is a C-ordered ``uint16`` array, clips × k × tokens. Without this package:
``np.load(folder / shard["file"], mmap_mode="r")``.
"""

import errno
import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["INDEX_FILE", "TokenStore"]

INDEX_FILE = "index.json"
FORMAT = "delvm_mm.token_store"
VERSION = 1
TOKEN_DTYPE = np.dtype("<u2")
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)

SETTINGS = (
    "clip_shape",
    "grid",
    "num_embeddings",
    "tokenizer_fingerprint",
    "precision",
    "task",
    "source",
    "seed",
    "num_augmented_copies",
    "source_clips",
    "source_digest",
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
        num_augmented_copies, complete, skipped: as in the index.

    Raises:
        FileNotFoundError: The folder, its index or a shard is missing.
        ValueError: The index is not one of this format and version, a shard has not the size that the index gives,
            or the fingerprint differs.
    """

    def __init__(self, path: str | Path, tokenizer_fingerprint: str | None = None) -> None:
        self.path = Path(path)
        index = read_index(self.path)
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
        self.skipped: list[dict] = index["skipped"]
        if tokenizer_fingerprint is not None and tokenizer_fingerprint != self.tokenizer_fingerprint:
            raise ValueError(
                f"{self.path} was made with tokenizer {self.tokenizer_fingerprint!r}, expected "
                f"{tokenizer_fingerprint!r}: its tokens mean other pictures; tokenize the data again"
            )
        for shard in index["shards"]:
            self._check_size(shard)
        # Shard s holds the clips from bounds[s] up to, not including, bounds[s + 1].
        self._bounds = [0, *accumulate(shard["clips"] for shard in index["shards"])]
        self._arrays: dict[int, np.ndarray] = {}
        self._bytes: dict[int, memoryview] = {}

    def __len__(self) -> int:
        """Number of clips."""
        return self._bounds[-1]

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
        shard = bisect_right(self._bounds, number) - 1
        return self._array(shard)[number - self._bounds[shard]]

    def read(self, clips: Iterable[int]) -> np.ndarray:
        """Tokens of several clips laid end to end, many times faster than one clip after another.

        Args:
            clips: Positions in the store, from 0 to ``len(self) - 1``.

        Returns:
            uint16 array of N*k*tokens, read-only.
        """
        clips = list(clips)
        # numpy takes several times as long to concatenate arrays as small as these.
        try:
            content = b"".join([*self._views(clips)])
        except OSError as error:
            if error.errno not in TOO_MANY_FILES:
                raise
            # Copied one by one, so that none keeps its shard open.
            content = b"".join(map(bytes, self._views(clips)))
        return np.frombuffer(content, TOKEN_DTYPE)

    def _views(self, clips: Iterable[int]) -> Iterator[memoryview]:
        """The bytes of clips in their mapped shards."""
        size = self.clip_shape[0] * self.clip_shape[1] * TOKEN_DTYPE.itemsize
        bounds, shards = self._bounds, self._bytes
        for clip in clips:
            shard = bisect_right(bounds, clip) - 1
            if shard not in shards:
                shards[shard] = memoryview(self._array(shard)).cast("B")
            start = (clip - bounds[shard]) * size
            yield shards[shard][start : start + size]

    def __getstate__(self) -> dict:
        """Without the open shards: pickling a memory map, as worker processes may do, would copy its content."""
        return {**self.__dict__, "_arrays": {}, "_bytes": {}}

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
            largest = int(self._array(number).max()) if shard["clips"] else 0
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
                array = self._mapped(file)
            except (ValueError, EOFError) as error:
                raise ValueError(f"{file} is not a readable .npy file: {error}") from error
            expected = (entry["clips"], *self.clip_shape)
            if array.dtype != TOKEN_DTYPE or array.shape != expected:
                raise ValueError(
                    f"{file} holds {array.dtype} of shape {array.shape}, {INDEX_FILE} says uint16 of shape {expected}"
                )
            self._arrays[shard] = array
        return self._arrays[shard]

    def _mapped(self, file: Path) -> np.ndarray:
        """The array in a file, mapped into memory; a mapped file counts as open."""
        for remedy in (raise_file_limit, self._close_all):
            try:
                return np.load(file, mmap_mode="r")
            except OSError as error:
                if error.errno not in TOO_MANY_FILES:
                    raise
                remedy()
        return np.load(file, mmap_mode="r")

    def _close_all(self) -> None:
        """Let go of the mapped shards; they are mapped again when they are needed."""
        self._arrays.clear()
        self._bytes.clear()

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


def raise_file_limit() -> None:
    """Allow this process as many open files as the system lets it: large stores have thousands of shards."""
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
    """Journals of the finished shards of an unfinished store, by number."""
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


def with_journals(folder: Path, index: dict) -> dict:
    """The index of an unfinished store with the shards finished so far."""
    shards = {number_of(shard["file"]): shard for shard in index["shards"]}
    skipped = list(index["skipped"])
    for number, journal in journals(folder).items():
        if number not in shards:
            skipped += journal["skipped"]
            shards[number] = {key: value for key, value in journal.items() if key != "skipped"}
    ordered = [shards[number] for number in sorted(shards)]
    return index | {
        "num_clips": sum(shard["clips"] for shard in ordered),
        "shards": ordered,
        "skipped": sorted(skipped, key=lambda entry: entry["clip"]),
    }


def read_index(folder: Path) -> dict:
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
    # Stores made before these entries existed have their only value.
    for key, value in (("precision", "float32"), ("skipped", []), ("source_clips", None), ("source_digest", "")):
        index.setdefault(key, value)
    missing = [key for key in (*SETTINGS, "complete", "num_clips", "shards") if key not in index]
    missing += [
        f"shards[{n}].{key}"
        for n, shard in enumerate(index.get("shards", []))
        for key in ("file", "clips", "bytes", "sha256")
        if key not in shard
    ]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing[:5])}: copy it again or tokenize the data again")
    return index if index["complete"] else with_journals(folder, index)
