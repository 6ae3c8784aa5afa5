"""Teacher cache: what a teacher predicts at every token of 'fixed' visual sentences, its k most likely codes each.

A folder of ``.npy`` shards and one ``index.json``, which holds::

    format, version           "delvm_mm.teacher_cache", 1
    teacher_fingerprint       which teacher, with which weights
    num_embeddings            vocabulary K
    top_k                     k, the codes kept for each position
    temperature               the distribution is softmax(logits / temperature)
    dtype                     of the log-probabilities, "float16" or "float32"
    precision                 of the teacher, "float32" or "bfloat16"
    tokenizer_fingerprint     of the tokens that the teacher read
    context, sentence_length  of the visual sentences, in tokens; L = sentence_length
    assembly_seed             of the 'fixed' assembly
    stores                    [{path, clips, digest}, ...] in order; path as it was given, digest of its shards' sha256
    source_sentences          that there are to be: those of one epoch
    shard_sentences           sentences in every shard but the last
    complete, num_sentences   whether all shards are written; sentences in them
    shards                    [{file, sentences, bytes, sha256}, ...] in order

A shard is a C-ordered structured array, sentences x (L-1), with the fields ``codes`` (k x uint16, the most likely
first), ``log_probs`` (k x dtype) and ``log_rest`` (dtype: log of the mass of all other codes, -inf for k = K). Position
j is what the teacher says of token j + 1. Without this package:
``np.load(folder / shard["file"], mmap_mode="r")["log_probs"]``. Folders that are not complete: ``shard_folder.py``.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from delvm_mm.stores.shard_folder import INDEX_FILE, ShardFolder, ShardFormat
from delvm_mm.stores.token_store import TokenStore

__all__ = ["TeacherCache"]

TOOL = "delvm cache-teacher"
TEACHER_CACHE = ShardFormat(
    name="delvm_mm.teacher_cache",
    version=1,
    kind="teacher cache",
    items="sentences",
    settings=(
        "teacher_fingerprint",
        "num_embeddings",
        "top_k",
        "temperature",
        "dtype",
        "precision",
        "tokenizer_fingerprint",
        "context",
        "sentence_length",
        "assembly_seed",
        "stores",
        "source_sentences",
        "shard_sentences",
    ),
    tool=TOOL,
    remedy=f"make it again with {TOOL}",
)


class TeacherCache(ShardFolder):
    """A teacher cache opened for reading; shards are memory-mapped when they are first needed.

    Args:
        path: The folder.

    Attributes:
        path, top_k, temperature, num_embeddings, sentence_length, teacher_fingerprint, complete: as in the index.

    Raises:
        FileNotFoundError: The folder, its index or a shard is missing.
        ValueError: The index is not one of this format and version, or a shard has not the size that the index gives.

    Example:
        >>> cache = TeacherCache("work_dirs/llama1b/teacher_cache")  # doctest: +SKIP
        >>> codes, log_probs, log_rest = cache.read([0, 5])  # doctest: +SKIP
        >>> codes.shape, log_rest.shape  # doctest: +SKIP
        (torch.Size([2, 2047, 32]), torch.Size([2, 2047]))
    """

    format = TEACHER_CACHE

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.top_k: int = self.index["top_k"]
        self.temperature: float = self.index["temperature"]
        self.num_embeddings: int = self.index["num_embeddings"]
        self.sentence_length: int = self.index["sentence_length"]
        self.teacher_fingerprint: str = self.index["teacher_fingerprint"]

    def __repr__(self) -> str:
        return (
            f"TeacherCache({str(self.path)!r}, {len(self)} sentences of {self.sentence_length} tokens, "
            f"top {self.top_k} of {self.num_embeddings} codes)"
        )

    def read(self, sentences: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """What the teacher predicts in some sentences.

        Args:
            sentences: B numbers of sentences in the dataset, ``data_samples.sentence``; the epoch does not matter.

        Returns:
            Codes, the most likely first (int64, B x (L-1) x k), their log-probabilities (float32, B x (L-1) x k), and
            the log of the mass of all other codes (float32, B x (L-1); -inf for k = K).

        Raises:
            IndexError: The cache has no such sentence.
            ValueError: A shard was changed since the cache was opened.
        """
        dtype, shape = self._item()
        records = np.empty((len(sentences), *shape), dtype)
        for row, sentence in enumerate(sentences):
            if not 0 <= sentence < len(self):
                raise IndexError(f"sentence {sentence} of {self.path}, which has {len(self)} sentences")
            shard, place = self._place(int(sentence))
            records[row] = self._array(shard)[place]
        codes = torch.from_numpy(records["codes"].astype(np.int64))
        log_probs, log_rest = (torch.from_numpy(records[name].astype(np.float32)) for name in ("log_probs", "log_rest"))
        return codes, log_probs, log_rest

    def _item(self) -> tuple[np.dtype, tuple[int, ...]]:
        return record_dtype(self.top_k, self.index["dtype"]), (self.sentence_length - 1,)

    def _check_values(self, file: Path, array: np.ndarray) -> None:
        for row in array:  # one sentence at a time: shards are large
            if (largest := int(row["codes"].max())) >= self.num_embeddings:
                raise ValueError(
                    f"{file} holds code {largest}, {INDEX_FILE} says that there are {self.num_embeddings}: "
                    f"{self.format.remedy}"
                )
            mass = np.exp(row["log_probs"].astype(np.float64)).sum(-1) + np.exp(row["log_rest"].astype(np.float64))
            # Half a step of float16 is 0.004 at the logarithm of one in 3000, and less for what is more likely.
            if not np.all(np.abs(mass - 1) < 0.01):
                raise ValueError(f"{file} holds probabilities that do not sum to 1: {self.format.remedy}")


def record_dtype(top_k: int, dtype: str) -> np.dtype:
    """What is kept for one position: 4k + 2 bytes with 'float16', 6k + 4 with 'float32'."""
    number = np.dtype(dtype).newbyteorder("<")
    return np.dtype([("codes", "<u2", (top_k,)), ("log_probs", number, (top_k,)), ("log_rest", number)])


def store_digest(store: TokenStore) -> str:
    """16 hexadecimal digits that name the content of a token store: of its shards' sha256, in order."""
    content = "\n".join(shard["sha256"] for shard in store.index["shards"])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
