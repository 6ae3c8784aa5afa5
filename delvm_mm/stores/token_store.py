"""Token store: a folder of plain ``.npy`` shards and one ``index.json``, written atomically and read by memory map.

``index.json`` holds::

    format, version           "delvm_mm.token_store", 1
    clip_shape                [k, tokens]: images in a clip, tokens in an image
    grid                      [h, w], row-major, h*w = tokens
    num_embeddings            codebook size; every token is in [0, num_embeddings)
    tokenizer_fingerprint     which tokenizer, with which weights
    precision                 of the encoder, "float32" or "bfloat16"; the latter rounds some tokens to a neighbor
    task, source, seed, num_augmented_copies
    shard_clips               clips in every shard but the last, those counted that were skipped
    source_clips              clips that the data has, those counted that were skipped; null where it is not known
    source_digest             of the names of the data's samples; "" where it is not known
    complete, num_clips       whether all shards are written; clips in them
    shards                    [{file, clips, bytes, sha256}, ...] in order
    skipped                   [{clip, error}, ...]: clips of the data that could not be read and are not in the shards

A shard is a C-ordered ``uint16`` array, clips x k x tokens. Without this package:
``np.load(folder / shard["file"], mmap_mode="r")``. What a store has besides while it is made is in ``shard_folder.py``.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from delvm_mm.stores.shard_folder import INDEX_FILE, ShardFolder, ShardFormat

__all__ = ["INDEX_FILE", "TokenStore"]

TOKEN_DTYPE = np.dtype("<u2")

TOKEN_STORE = ShardFormat(
    name="delvm_mm.token_store",
    version=1,
    kind="token store",
    items="clips",
    settings=(
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
    ),
    tool="delvm tokenize",
    remedy="tokenize the data again",
    # Stores made before these entries existed have their only value, or one that is not known.
    defaults={"precision": "float32", "skipped": [], "source_clips": None, "source_digest": ""},
    unknown={"source_clips": None, "source_digest": ""},
)


class TokenStore(ShardFolder):
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

    format = TOKEN_STORE

    def __init__(self, path: str | Path, tokenizer_fingerprint: str | None = None) -> None:
        super().__init__(path)
        index = self.index
        self.clip_shape: tuple[int, int] = tuple(index["clip_shape"])
        self.grid: tuple[int, int] = tuple(index["grid"])
        self.num_embeddings: int = index["num_embeddings"]
        self.tokenizer_fingerprint: str = index["tokenizer_fingerprint"]
        self.task: str = index["task"]
        self.source = index["source"]
        self.seed: int = index["seed"]
        self.num_augmented_copies: int = index["num_augmented_copies"]
        self.skipped: list[dict] = index["skipped"]
        if tokenizer_fingerprint is not None and tokenizer_fingerprint != self.tokenizer_fingerprint:
            raise ValueError(
                f"{self.path} was made with tokenizer {self.tokenizer_fingerprint!r}, expected "
                f"{tokenizer_fingerprint!r}: its tokens mean other images; tokenize the data again"
            )
        self._bytes: dict[int, memoryview] = {}

    def __getitem__(self, clip: int) -> np.ndarray:
        """Tokens of one clip.

        Args:
            clip: Position in the store; negative counts from the end.

        Returns:
            uint16 array k x tokens, a read-only view into the memory-mapped shard.

        Raises:
            IndexError: There is no such clip.
        """
        number = clip + len(self) if clip < 0 else clip
        if not 0 <= number < len(self):
            raise IndexError(f"clip {clip} of {self.path}, which has {len(self)} clips")
        shard, row = self._place(number)
        return self._array(shard)[row]

    def read(self, clips: Iterable[int]) -> np.ndarray:
        """Tokens of several clips laid end to end, many times faster than one clip after another.

        Args:
            clips: Positions in the store, from 0 to ``len(self) - 1``.

        Returns:
            uint16 array of N*k*tokens, read-only.
        """
        # numpy takes several times as long to concatenate arrays as small as these.
        return np.frombuffer(b"".join(self._views(clips)), TOKEN_DTYPE)

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
        """Without the open shards."""
        return super().__getstate__() | {"_bytes": {}}

    def __repr__(self) -> str:
        k, tokens = self.clip_shape
        return f"TokenStore({str(self.path)!r}, task={self.task!r}, {len(self)} clips of {k} x {tokens} tokens)"

    def _item(self) -> tuple[np.dtype, tuple[int, ...]]:
        return TOKEN_DTYPE, self.clip_shape

    def _check_values(self, file: Path, array: np.ndarray) -> None:
        if array.size and (largest := int(array.max())) >= self.num_embeddings:
            raise ValueError(
                f"{file} holds token {largest}, but the codebook has {self.num_embeddings} entries: "
                "the store was made with another tokenizer; tokenize the data again"
            )
