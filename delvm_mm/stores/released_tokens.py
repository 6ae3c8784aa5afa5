"""The text format in which the method's authors release tokens, to and from token stores.

``train.bin`` holds one JSON object a line, ``{"tokens": [11, 48, ...]}``: a clip or several, image after image.
``train.bin.meta`` is a ``.npy`` file, int64, rows x 2: at which byte each line begins, and how many tokens it holds.
Neither says how many tokens an image has, how large the codebook is, or which tokenizer was used.
"""

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from delvm_mm.checkpoints.files import put_in_place, temporary_beside
from delvm_mm.stores.token_store import TokenStore
from delvm_mm.stores.token_store_writer import TokenStoreWriter

__all__ = ["export_released_tokens", "import_released_tokens", "read_released_tokens", "write_released_tokens"]

MAX_LINE_BYTES = 16 * 2**20
MAX_LENGTHS = 64


def read_released_tokens(
    path: str | Path, num_embeddings: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Iterator[np.ndarray]:
    """Read a file of released tokens line by line, each checked, against ``<path>.meta`` too where there is one.

    Args:
        path: The ``.bin`` file; of any size, it is never in memory as a whole.
        num_embeddings: Codebook size; if given, larger tokens are refused.
        progress: Called with (bytes read, bytes in all) after each line.

    Yields:
        The tokens of a line, int64, of any length from 1. Other entries of the line's object are left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, a line is not as described, or ``.meta`` says something else about it; the
            message names file and line, counted from 1.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}: expected released tokens, such as train.bin")
    meta = _MetaFile(meta_path(path)) if meta_path(path).exists() else None
    total, offset, number = path.stat().st_size, 0, 0
    with open(path, "rb") as stream:
        for number, line in enumerate(_lines(stream, path), 1):
            tokens = _parse(line, f"{path}, line {number}", num_embeddings)
            if meta is not None:
                meta.check(path, number, offset, len(tokens))
            offset += len(line)
            yield tokens
            if progress is not None:
                progress(offset, total)
    if number == 0:
        raise ValueError(f"{path} is empty: expected a JSON object a line; copy or download it again")
    if meta is not None and len(meta) != number:
        raise ValueError(
            f"{path} ends after line {number}, but {meta.path} has {len(meta)} rows: "
            "one of the two is truncated or belongs to another file; copy both again"
        )


def write_released_tokens(path: str | Path, rows: Iterable[np.ndarray]) -> int:
    """Write rows of tokens as ``path`` and ``<path>.meta``; neither is there before both are complete.

    Args:
        path: The ``.bin`` file, whose folder is made if need be.
        rows: One-dimensional integer arrays, at least one token each; taken one by one.

    Returns:
        How many rows were written.

    Raises:
        FileExistsError: One of the files is there; nothing is overwritten.
        OSError: The disk is full, or cannot be written.
        ValueError: A row is not as described, or there is none.
    """
    path = Path(path)
    for file in (path, meta_path(path)):
        if os.path.lexists(file):
            raise FileExistsError(f"{file} exists and is not overwritten: choose another name, or delete it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = array("q")
    with temporary_beside(path) as temporary, temporary_beside(meta_path(path)) as temporary_meta:
        with _writing(path), open(temporary, "wb") as stream:
            offset = 0
            for number, row in enumerate(rows, 1):
                row = np.asarray(row)
                if row.ndim != 1 or not len(row) or row.dtype.kind not in "iu":
                    raise ValueError(
                        f"row {number} for {path} is {row.dtype} of shape {row.shape}: expected integers, one or more"
                    )
                line = json.dumps({"tokens": row.tolist()}).encode() + b"\n"
                stream.write(line)
                meta.extend((offset, len(row)))
                offset += len(line)
        if not meta:
            raise ValueError(f"there are no tokens to write into {path}")
        with _writing(path):
            with open(temporary_meta, "wb") as stream:
                np.save(stream, np.frombuffer(meta, np.int64).reshape(-1, 2))
            # Where `path` is, everything is: it comes last.
            put_in_place(temporary_meta, meta_path(path))
            put_in_place(temporary, path)
    return len(meta) // 2


def import_released_tokens(
    path: str | Path,
    out: str | Path,
    *,
    grid: tuple[int, int],
    num_embeddings: int,
    tokenizer_fingerprint: str,
    task: str,
    source: Any = None,
    clip_length: int | None = None,
    shard_clips: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Make token stores of a file of released tokens.

    A store has clips of one length, so rows are parted by theirs: into ``out`` itself where all are of one length, else
    into ``out/clips_of_2``, ``out/clips_of_6``, ... by the number of images. Rows that are no whole number of
    images lose nothing: rows of 40 tokens go into ``out/rows_of_40`` (``out`` itself if there are no others), as
    clips of one "image" of 1 x 40 tokens. Within a store, rows keep their order.

    ``out`` appears when everything is written; a run that fails leaves nothing.

    Args:
        path: The ``.bin`` file, as for :func:`read_released_tokens`.
        out: Folder to make.
        grid: (h, w) of an image's tokens.
        num_embeddings: Codebook size.
        tokenizer_fingerprint: Of the tokenizer that made the tokens.
        task: The one task of all rows.
        source: For the index; by default the name of the file.
        clip_length: Images of a clip: rows of several clips are split, e.g. 8 images into 4 pairs. Rows that it
            does not divide stay whole. By default a row is a clip.
        shard_clips: Clips in a shard; by default as many as make 16 MiB.
        progress: Called with (bytes read, bytes in all).

    Returns:
        The folders of the stores, sorted.

    Raises:
        FileExistsError: ``out`` is there and not empty; nothing is overwritten.
        FileNotFoundError: There is no such file.
        ValueError: As for :func:`read_released_tokens`; or an argument is out of range.
    """
    out = Path(out)
    if clip_length is not None and clip_length < 1:
        raise ValueError(f"clip_length must be at least 1 image, got {clip_length}")
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"grid must be height and width of an image in tokens, got {tuple(grid)}")
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not overwritten: choose another folder, or delete this one first")
    settings = {
        "num_embeddings": num_embeddings,
        "tokenizer_fingerprint": tokenizer_fingerprint,
        "task": task,
        "source": Path(path).name if source is None else source,
    }
    writers: dict[str, TokenStoreWriter] = {}
    with temporary_beside(out.resolve()) as temporary:
        for row in read_released_tokens(path, num_embeddings, progress):
            name, clips, clip_grid = _as_clips(row, grid, clip_length)
            if name not in writers:
                if len(writers) == MAX_LENGTHS:
                    raise ValueError(
                        f"{path} has rows of more than {MAX_LENGTHS} lengths, each of which would be a store of its "
                        f"own: is an image really {grid[0]} x {grid[1]} tokens? If rows are of many lengths and "
                        "whole clips, give the length of a clip"
                    )
                with _writing(out):
                    writers[name] = TokenStoreWriter(
                        temporary / name,
                        clip_shape=clips.shape[1:],
                        grid=clip_grid,
                        shard_clips=shard_clips,
                        **settings,
                    )
            with _writing(out):
                writers[name].add(clips)
        with _writing(out):
            for writer in writers.values():
                writer.finish()
            if len(writers) == 1:
                put_in_place(temporary / next(iter(writers)), out)
                return [out]
            put_in_place(temporary, out)
    return sorted(out / name for name in writers)


def export_released_tokens(
    stores: Sequence[str | Path],
    path: str | Path,
    images_per_row: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write token stores, one after another, as a file of released tokens with its ``.meta``.

    Args:
        stores: Folders of complete stores of one tokenizer.
        path: The ``.bin`` file to make.
        images_per_row: Clips of a store are laid end to end in their order to rows of so many images, the last row
            of a store may be shorter. By default a row is a clip.
        progress: Called with (clips written, clips in all).

    Returns:
        How many rows were written.

    Raises:
        FileExistsError: A file is there; nothing is overwritten.
        FileNotFoundError: A store is missing.
        ValueError: A store is unfinished or damaged, the stores disagree, or ``images_per_row`` is no whole number
            of clips.
    """
    opened = [TokenStore(store) for store in stores]
    if not opened:
        raise ValueError("there is no token store to export: expected at least one")
    for store in opened:
        k = store.clip_shape[0]
        if not store.complete:
            raise ValueError(f"{store.path} is unfinished: make it complete first with delvm tokenize")
        if images_per_row is not None and (images_per_row < 1 or images_per_row % k):
            raise ValueError(
                f"images_per_row is {images_per_row}, expected a multiple of the {k} images of a clip of {store.path}"
            )
        for key in ("tokenizer_fingerprint", "num_embeddings"):
            if getattr(store, key) != getattr(opened[0], key):
                raise ValueError(
                    f"token stores disagree in {key}: {opened[0].path} has {getattr(opened[0], key)!r}, {store.path} "
                    f"has {getattr(store, key)!r}; a file of released tokens has one tokenizer"
                )
    return write_released_tokens(path, _rows(opened, images_per_row, progress))


def meta_path(path: Path) -> Path:
    """Where the offsets and lengths of a file of released tokens are."""
    return path.with_name(path.name + ".meta")


def _lines(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES:
            raise ValueError(
                f"{path}, line {number} is longer than {MAX_LINE_BYTES} bytes: expected a JSON object a line"
            )
        yield line


def _parse(line: bytes, name: str, num_embeddings: int | None) -> np.ndarray:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{name} is no readable JSON ({error}): copy or download the file again") from error
    tokens = content.get("tokens") if isinstance(content, dict) else None
    if not isinstance(tokens, list):
        raise ValueError(f'{name} has no list "tokens": expected {{"tokens": [0, 1, ...]}}')
    if not tokens:
        raise ValueError(f"{name} has no tokens: expected at least one")
    if set(map(type, tokens)) != {int}:  # bool is a subclass, and no token
        place, token = next((place, token) for place, token in enumerate(tokens) if type(token) is not int)
        raise ValueError(f"{name} holds {json.dumps(token)[:40]} at position {place}: expected integers")
    smallest, largest = min(tokens), max(tokens)
    if smallest < 0 or largest >= (2**63 if num_embeddings is None else num_embeddings):
        token = smallest if smallest < 0 else largest
        raise ValueError(
            f"{name} holds token {token} at position {tokens.index(token)}: expected 0 to "
            + ("2**63 - 1" if num_embeddings is None else f"{num_embeddings - 1}, the codebook's last")
        )
    return np.array(tokens, np.int64)


class _MetaFile:
    """Offsets and lengths, read block by block: row by row is slow, and all at once may be much."""

    block_rows = 2**16

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._rows = np.load(path, mmap_mode="r")
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(
                f"{path} is not a readable .npy file ({error}): copy it again, or move it away to import without it"
            ) from error
        if self._rows.ndim != 2 or self._rows.shape[1] != 2 or self._rows.dtype.kind not in "iu":
            raise ValueError(
                f"{path} holds {self._rows.dtype} of shape {self._rows.shape}: expected int64, rows x 2 "
                "(offset, length)"
            )
        self._block: list[list[int]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def check(self, path: Path, number: int, offset: int, length: int) -> None:
        """Compare line ``number``, counted from 1."""
        if number > len(self):
            raise ValueError(
                f"{path} goes on with line {number}, but {self.path} has {len(self)} rows: "
                "one of the two is truncated or belongs to another file; copy both again"
            )
        place = (number - 1) % self.block_rows
        if place == 0:
            self._block = self._rows[number - 1 : number - 1 + self.block_rows].tolist()
        if self._block[place] != [offset, length]:
            raise ValueError(
                f"{path}, line {number} begins at byte {offset} and has {length} tokens, but {self.path} says byte "
                f"{self._block[place][0]} and {self._block[place][1]} tokens: they do not belong together; copy both "
                "again, or move the .meta away to import without it"
            )


def _as_clips(
    row: np.ndarray, grid: tuple[int, int], clip_length: int | None
) -> tuple[str, np.ndarray, tuple[int, int]]:
    """Name of the store, clips n x k x tokens, and grid that a row of tokens gets."""
    tokens = grid[0] * grid[1]
    images, rest = divmod(len(row), tokens)
    if rest:
        return f"rows_of_{len(row)}", row.reshape(1, 1, -1), (1, len(row))
    k = clip_length if clip_length is not None and images % clip_length == 0 else images
    return f"clips_of_{k}", row.reshape(-1, k, tokens), tuple(grid)


def _rows(
    stores: Sequence[TokenStore], images_per_row: int | None, progress: Callable[[int, int], None] | None
) -> Iterator[np.ndarray]:
    total, done = sum(map(len, stores)), 0
    for store in stores:
        step = 1 if images_per_row is None else images_per_row // store.clip_shape[0]
        for start in range(0, len(store), step):
            clips = range(start, min(start + step, len(store)))
            row = np.concatenate([store[clip].reshape(-1) for clip in clips])
            if row.max() >= store.num_embeddings:
                raise ValueError(
                    f"{store.path} holds token {row.max()} in clips {clips[0]} to {clips[-1]}, its codebook has "
                    f"{store.num_embeddings}: the store is damaged; make it again"
                )
            yield row
            done += len(clips)
            if progress is not None:
                progress(done, total)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say of an error of the disk what was to be written, and that nothing of it is left."""
    try:
        yield
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        if cause.errno is None:  # not of the disk: somebody's message
            raise
        raise OSError(
            f"cannot write {path} ({cause}); nothing of it is kept: make room or give permission, and run again"
        ) from error
