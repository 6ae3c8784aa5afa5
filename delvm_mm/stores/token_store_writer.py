"""Writing a token store so that a process that is killed, at whatever moment, leaves a store that can be continued."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.stores.shard_folder_writer import ShardFolderWriter
from delvm_mm.stores.token_store import TOKEN_DTYPE, TOKEN_STORE

__all__ = ["TokenStoreWriter"]


class TokenStoreWriter(ShardFolderWriter):
    """Writes a token store shard by shard, so that a killed run loses at most one shard and leaves a valid store.

    Each file is written under a temporary name, synced and renamed; the journal of a shard follows the shard. A store
    that was started with the same settings is continued. Clips that come in order are given to :meth:`add`; look at
    :attr:`num_clips` for where to continue. Several processes write shards of their own with :meth:`write_shard`, and
    one of them ends with :meth:`finish`; the first has to have opened the store before the others do.

    Args:
        path: The folder; created with its parents.
        clip_shape: (k, tokens): images in a clip, tokens in an image.
        grid: (h, w) of an image's tokens, row-major, h*w = tokens.
        num_embeddings: Codebook size, at most 65536.
        tokenizer_fingerprint: Names the tokenizer and its weights.
        task: The one task of all clips, e.g. ``'seg'``.
        source: Where the clips come from: a text or any value that JSON can hold.
        seed: Seed of what was random in making the clips.
        num_augmented_copies: Augmented copies of each original clip that the store holds; 0 for the originals.
        shard_clips: Clips in a shard; by default as :func:`~delvm_mm.stores.shard_folder.default_shard_size`, or as a
            store that is continued has.
        precision: Of the encoder.
        source_clips: Clips that the data has; shows on continuing that the data has changed.
        source_digest: Of the names of the data's samples; for the same.

    Raises:
        FileExistsError: The folder holds something else, or a store with other settings; nothing is overwritten.
        ValueError: The settings contradict each other.
    """

    format = TOKEN_STORE

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
        shard_clips: int | None = None,
        precision: str = "float32",
        source_clips: int | None = None,
        source_digest: str = "",
    ) -> None:
        settings = {
            "clip_shape": [int(n) for n in clip_shape],
            "grid": [int(n) for n in grid],
            "num_embeddings": int(num_embeddings),
            "tokenizer_fingerprint": tokenizer_fingerprint,
            "precision": precision,
            "task": task,
            "source": source,
            "seed": seed,
            "num_augmented_copies": num_augmented_copies,
            "source_clips": source_clips,
            "source_digest": source_digest,
            "shard_clips": None if shard_clips is None else int(shard_clips),
        }
        _check_settings(settings)
        size = settings["clip_shape"][0] * settings["clip_shape"][1] * TOKEN_DTYPE.itemsize
        super().__init__(path, settings, size, extra={"skipped": []})
        self._pending: list[np.ndarray] = []
        self._next_shard = len(self._index["shards"])

    @property
    def clip_shape(self) -> tuple[int, int]:
        """(k, tokens): images in a clip, tokens in an image."""
        return tuple(self._index["clip_shape"])

    @property
    def shard_clips(self) -> int:
        """Clips in a shard."""
        return self.shard_size

    @property
    def num_clips(self) -> int:
        """Clips in the shards on disk; a run that adds clips in order goes on with this one."""
        return self.num_items

    def add(self, clips: np.ndarray) -> None:
        """Append clips; a shard is written as soon as it is full.

        Args:
            clips: Integer array N x k x tokens.

        Raises:
            ValueError: Another shape, or a token outside the codebook.
            RuntimeError: The store is complete.
        """
        self._pending.extend(self._checked(clips))
        size = self.shard_size
        while len(self._pending) >= size:
            self._write_pending(size)

    def write_shard(self, number: int, clips: np.ndarray, skipped: Sequence[dict] = ()) -> None:
        """Write one shard; each number is written once, in any order, by any process.

        Args:
            number: Its position among the shards.
            clips: Integer array N x k x tokens; N may be 0 where all clips were skipped.
            skipped: ``dict(clip=number in the data, error=message)`` for each clip that is left out.

        Raises:
            ValueError: Another shape, or a token outside the codebook.
            RuntimeError: The store is complete.
            OSError: The disk is full, or cannot be written.
        """
        self._write_array(number, self._checked(clips), {"skipped": list(skipped)})

    def finish(self) -> None:
        """Write the clips that are left as a last, smaller shard and mark the store as complete.

        Raises:
            RuntimeError: A shard between others is missing, or clips at the end, of ``source_clips``.
        """
        if not self.complete and self._pending:
            self._write_pending(len(self._pending))
        super().finish()

    def _write_pending(self, size: int) -> None:
        self.write_shard(self._next_shard, np.stack(self._pending[:size]))
        self._next_shard += 1
        self._pending = self._pending[size:]

    def _checked(self, clips: np.ndarray) -> np.ndarray:
        self._check_unfinished()
        clips = np.asarray(clips)
        shape = self.clip_shape
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
        return clips.astype(TOKEN_DTYPE)


def _check_settings(settings: Mapping[str, Any]) -> None:
    (k, tokens), (h, w) = settings["clip_shape"], settings["grid"]
    if k < 1 or tokens < 1 or h * w != tokens:
        raise ValueError(
            f"clip_shape {(k, tokens)} and grid {(h, w)} contradict: expected tokens = h * w, all positive"
        )
    if not 1 <= settings["num_embeddings"] <= 65536:
        raise ValueError(f"num_embeddings {settings['num_embeddings']} does not fit uint16 tokens: expected 1 to 65536")
    if settings["shard_clips"] is not None and settings["shard_clips"] < 1:
        raise ValueError(f"shard_clips must be at least 1, got {settings['shard_clips']}")
