"""Making a teacher cache: the teacher reads every 'fixed' visual sentence once, and its top codes are written down."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delvm_mm.datasets.visual_sentences import VisualSentenceDataset
from delvm_mm.hardware import choose_device
from delvm_mm.stores.shard_folder_writer import ShardFolderWriter
from delvm_mm.stores.shard_runs import LOCK_SECONDS, ShardProgress, make_shards
from delvm_mm.stores.teacher_store import TEACHER_CACHE, TeacherCache, record_dtype, store_digest

__all__ = ["cache_teacher", "teacher_fingerprint", "top_log_probs"]

DTYPES = ("float16", "float32")
PRECISIONS = ("float32", "bfloat16")
CHUNK_VALUES = {"cpu": 2**19, "cuda": 2**25}
"""Of logits that are there at a time: 2 MiB in float32, which a core's cache holds, and 128 MiB."""


def cache_teacher(
    dataset: VisualSentenceDataset,
    teacher: nn.Module,
    out: str | Path,
    *,
    top_k: int = 32,
    temperature: float = 1.0,
    dtype: str = "float16",
    precision: str = "float32",
    batch: int = 8,
    shard_sentences: int | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TeacherCache:
    """Write what a teacher predicts at every token of a dataset into a teacher cache.

    A run that stopped is continued with its unfinished shards and ends with the same bytes, if ``batch``, the device
    and PyTorch are the same: rounding can depend on them. A finished cache is left alone. Where ``torch.distributed``
    is running, its processes share the shards; the bytes are the same again.

    Args:
        dataset: 'fixed' sentences.
        teacher: A :class:`~delvm_mm.models.DeLVM`. It is moved to the device and set to eval mode.
        out: Folder of the cache.
        top_k: Codes kept for each position, 1 to K.
        temperature: The distribution is softmax(logits / temperature).
        dtype: Of the log-probabilities in the files, 'float16' or 'float32'.
        precision: Of the teacher, 'float32' or 'bfloat16' (autocast); its distribution is always made in float32.
        batch: Sentences that the teacher reads together.
        shard_sentences: Sentences in a shard, by default 16 MiB of them, or a 64th part where that is less; a
            killed run loses at most one shard of each process.
        device: Where to run the teacher; by default a GPU if there is one.
        progress: Called with (sentences done, sentences in all), first with what an earlier run has done; those of
            other processes are counted when their shard is finished.

    Returns:
        The finished cache.

    Raises:
        FileExistsError: ``out`` holds a cache with other settings, or something else, or another run is writing it.
        OSError: The disk is full, or a file cannot be written; what is finished is kept.
        ValueError: A setting is out of range, the dataset is not 'fixed', or teacher and dataset do not fit.
    """
    _check_settings(dataset, teacher, top_k, temperature, dtype, precision, batch, shard_sentences)
    out = Path(out)
    device = choose_device(device)
    teacher = teacher.to(device).eval()
    stores = [{"path": str(s.path), "clips": len(s), "digest": store_digest(s)} for s in dataset.stores]
    settings = {
        "teacher_fingerprint": teacher_fingerprint(teacher),
        "num_embeddings": teacher.num_embeddings,
        "top_k": top_k,
        "temperature": float(temperature),
        "dtype": dtype,
        "precision": precision,
        "tokenizer_fingerprint": dataset.tokenizer_fingerprint,
        "context": dataset.context,
        "sentence_length": dataset.sentence_length,
        "assembly_seed": dataset.seed,
        "stores": stores,
        "source_sentences": len(dataset),
        "shard_sentences": shard_sentences,
    }

    sentence_bytes = record_dtype(top_k, dtype).itemsize * (dataset.sentence_length - 1)

    def make(writer: _TeacherCacheWriter, shards: Sequence[int], report: ShardProgress) -> None:
        for number in shards:
            first = number * writer.shard_size
            sentences = range(first, min(first + writer.shard_size, len(dataset)))
            writer.write_shard(number, _records(dataset, sentences, teacher, settings, batch, device, report))
            report.shard_is_finished()

    def open_writer() -> _TeacherCacheWriter:
        return _TeacherCacheWriter(out, settings, item_bytes=sentence_bytes)

    make_shards(out, open_writer, len(dataset), make, progress, LOCK_SECONDS)
    return TeacherCache(out)


class _TeacherCacheWriter(ShardFolderWriter):
    """Writes a teacher cache; see :class:`ShardFolderWriter` for what a kill leaves behind."""

    format = TEACHER_CACHE

    def write_shard(self, number: int, records: np.ndarray) -> None:
        """Write one shard, sentences x (L-1) records."""
        self._write_array(number, records)

    def _comparable(self, key: str, value: Any) -> Any:
        # Stores may have been moved, or be named in another way: what is in them counts.
        return [{**store, "path": None} for store in value] if key == "stores" else value


@torch.no_grad()
def _records(
    dataset: VisualSentenceDataset,
    sentences: range,
    teacher: nn.Module,
    settings: dict[str, Any],
    batch: int,
    device: torch.device,
    report: ShardProgress,
) -> np.ndarray:
    """What a shard holds of some sentences."""
    records = np.empty(
        (len(sentences), dataset.sentence_length - 1), record_dtype(settings["top_k"], settings["dtype"])
    )
    # -inf of an empty rest stays; what is finite stays finite.
    lowest = float(np.finfo(settings["dtype"]).min)
    done = 0
    # Batches never reach over a shard: whether resumed or not, the same sentences are read together.
    for start in range(0, len(sentences), batch):
        samples = dataset.__getitems__(sentences[start : start + batch])
        tokens = torch.stack([sample["inputs"] for sample in samples]).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings["precision"] == "bfloat16"):
            found = _predictions(teacher, tokens, settings["top_k"], settings["temperature"])
        codes, log_probs, log_rest = (part.view(len(tokens), dataset.sentence_length - 1, -1) for part in found)
        rows = records[done : done + len(tokens)]
        rows["codes"] = codes.cpu().numpy()
        rows["log_probs"] = log_probs.clamp(min=lowest).cpu().numpy()
        finite_rest = log_rest.clamp(min=lowest).where(log_rest.isfinite(), log_rest)
        rows["log_rest"] = finite_rest.squeeze(-1).cpu().numpy()
        done += len(tokens)
        report.show(done)
    if not np.isfinite(records["log_probs"]).all():
        raise ValueError(
            f"the teacher's predictions in sentences {sentences.start} to {sentences.stop - 1} are not finite: its "
            "weights are damaged, or the precision is too low for them; try --precision float32"
        )
    return records


def _predictions(teacher: nn.Module, tokens: Tensor, top_k: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, log-probabilities and log of the rest for all tokens but the first, B*(L-1) rows; logits in chunks."""
    features = teacher.backbone(teacher.embedding(tokens))[:, :-1].flatten(0, 1)
    rows = max(CHUNK_VALUES.get(tokens.device.type, 2**23) // teacher.num_embeddings, 1)
    parts = [top_log_probs(teacher.head(part).float(), top_k, temperature) for part in features.split(rows)]
    codes, log_probs, log_rest = (torch.cat(part) for part in zip(*parts, strict=True))
    return codes, log_probs, log_rest


def top_log_probs(logits: Tensor, top_k: int, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """The most likely codes of ``softmax(logits / temperature)`` and the mass of all others.

    Args:
        logits: float, N x K; overwritten.
        top_k: k, 1 to K.
        temperature: More than 0.

    Returns:
        Codes (int64, N x k, the most likely first), their log-probabilities (N x k), and the log of the mass of the
        K - k others (N; -inf for k = K).
    """
    logits = logits.div_(temperature)
    top, codes = logits.topk(top_k, dim=-1)
    # Not 1 minus the mass of the top: where that is close to 1, nothing would be left of the digits.
    rest = logits.scatter_(1, codes, -torch.inf).logsumexp(-1)
    total = torch.logaddexp(top.logsumexp(-1), rest)
    return codes, top - total[:, None], rest - total


def teacher_fingerprint(teacher: nn.Module) -> str:
    """16 hexadecimal digits that name a teacher: equal for equal architecture and weights, on any device.

    Args:
        teacher: A :class:`~delvm_mm.models.DeLVM`; its frozen tokenizer has a fingerprint of its own.

    Returns:
        The digits.
    """
    # Heads, norms and rotary positions change what is predicted and show in no weight.
    backbone = teacher.backbone
    architecture = {"arch": backbone.arch, "norm_eps": backbone.norm.eps, "rope_base": float(backbone.rope_base)}
    if backbone.rope_scaling:  # teachers without keep the names that they had before there was such a thing
        architecture["rope_scaling"] = backbone.rope_scaling
    digest = hashlib.sha256(json.dumps(architecture, sort_keys=True).encode())
    state = teacher.state_dict()
    for name in sorted(key for key in state if not key.startswith("tokenizer")):
        digest.update(f"{name}{tuple(state[name].shape)}".encode())
        digest.update(state[name].detach().float().cpu().contiguous().numpy().astype("<f4", copy=False).data)
    return digest.hexdigest()[:16]


def _check_settings(
    dataset: VisualSentenceDataset,
    teacher: nn.Module,
    top_k: int,
    temperature: float,
    dtype: str,
    precision: str,
    batch: int,
    shard_sentences: int | None,
) -> None:
    if getattr(dataset, "assembly", None) != "fixed":
        raise ValueError(
            "a teacher cache is of sentences that are the same in every epoch: give a VisualSentenceDataset with "
            f"assembly='fixed', got {getattr(dataset, 'assembly', type(dataset).__name__)!r}"
        )
    if not 1 <= top_k <= teacher.num_embeddings:
        raise ValueError(f"top_k must be from 1 to the vocabulary of {teacher.num_embeddings}, got {top_k}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be more than 0, got {temperature}")
    for name, given, known in (("dtype", dtype, DTYPES), ("precision", precision, PRECISIONS)):
        if given not in known:
            raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {given!r}")
    for name, given in (("batch", batch), ("shard_sentences", shard_sentences)):
        if given is not None and given < 1:
            raise ValueError(f"{name} must be at least 1, got {given}")
    if dataset.num_embeddings != teacher.num_embeddings or dataset.num_embeddings > 65536:
        raise ValueError(
            f"the token stores have a codebook of {dataset.num_embeddings}, the teacher's is "
            f"{teacher.num_embeddings}; they must be the same, at most 65536"
        )
    if dataset.sentence_length > teacher.max_positions:
        raise ValueError(
            f"sentences have {dataset.sentence_length} tokens and the teacher's context is {teacher.max_positions}"
        )
    made_with = teacher.tokenizer.fingerprint if teacher.tokenizer is not None else _noted_tokenizer(teacher)
    if made_with not in (None, dataset.tokenizer_fingerprint):
        raise ValueError(
            f"the token stores were made with tokenizer {dataset.tokenizer_fingerprint!r}, the teacher has "
            f"{made_with!r}; tokenize with the teacher's tokenizer"
        )


def _noted_tokenizer(teacher: nn.Module) -> str | None:
    """The tokenizer that weights were trained with, of a model that has none itself."""
    digest = bytes(teacher.tokenizer_digest.cpu().tolist())
    return digest.hex() if any(digest) else None
