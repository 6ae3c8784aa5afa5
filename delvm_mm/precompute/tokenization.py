"""Bulk tokenization: a clip dataset through the tokenizer, batched on the device, into a token store."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from delvm_mm.datasets.seeded_clips import SeededClips, Unreadable
from delvm_mm.hardware import choose_device
from delvm_mm.models.tokenizers.images import encode_images
from delvm_mm.models.tokenizers.loading import load_tokenizer
from delvm_mm.stores.shard_runs import LOCK_SECONDS, ShardProgress, make_shards
from delvm_mm.stores.token_store import TokenStore
from delvm_mm.stores.token_store_writer import TokenStoreWriter

__all__ = ["tokenize_clips"]


def tokenize_clips(
    dataset: Dataset,
    tokenizer: str | Path | dict | nn.Module,
    out: str | Path,
    *,
    task: str | None = None,
    source: Any = None,
    seed: int = 0,
    num_augmented_copies: int = 0,
    shard_clips: int | None = None,
    batch_clips: int = 16,
    num_workers: int = 0,
    device: str | torch.device | None = None,
    precision: str = "float32",
    on_error: str = "stop",
    progress: Callable[[int, int], None] | None = None,
) -> TokenStore:
    """Tokenize all clips of a dataset into a token store.

    A run that stopped is continued with its unfinished shards and ends with the same bytes: batches never reach over a
    shard, and what is random in a clip is seeded by ``seed`` and the number of the clip. A finished store is left
    alone. Where ``torch.distributed`` is running, its processes share the shards; the bytes are the same again.

    Args:
        dataset: Clips of one task; samples end with ``PackClip``.
        tokenizer: As for :func:`delvm_mm.models.load_tokenizer`.
        out: Folder of the store.
        task: Name of the clips' task, in place of the data set's; those of other toolboxes have none.
        source: Where the clips come from, for the index; any JSON value. By default, the name of the dataset's class.
            The number of clips is noted too, and the ``digest`` of a dataset that has one: a store is not continued
            with data that were added to or renamed. Files whose content changed are not noticed.
        seed: Seed of augmentations.
        num_augmented_copies: 0 for the samples as they are. With n, the store holds n clips of each sample, each with
            random numbers of its own: clip c is copy ``c // len(dataset)`` of sample ``c % len(dataset)``.
        shard_clips: Clips in a shard, by default 16 MiB of them, or a 64th part where that is less; a killed run loses
            at most one shard of each process.
        batch_clips: Clips encoded together.
        num_workers: Processes that read or render clips.
        device: Where to encode; by default a GPU if there is one.
        precision: 'float32', or 'bfloat16' for the convolutions: faster where the hardware has it, and some tokens
            become a neighboring code.
        on_error: What a sample that cannot be read (``ValueError``, or ``OSError`` about its file) does: 'stop' ends
            the run with its error; 'skip' leaves the clip out and lists it in the index. Clips of another shape or
            task than the first are no damage and always end the run.
        progress: Called with (clips done, clips in all), first with what an earlier run has done; those of other
            processes are counted when their shard is finished.

    Returns:
        The finished store.

    Raises:
        FileExistsError: ``out`` holds a store with other settings, or something else, or another run is writing it.
        OSError: The disk is full, or a file of the store cannot be written; what is finished is kept.
        ValueError: The dataset is empty, its clips differ in shape or task, a clip is damaged and ``on_error`` is
            'stop', or all are.
    """
    if len(dataset) == 0:
        raise ValueError(f"nothing to tokenize into {out}: the dataset {type(dataset).__name__} is empty")
    if batch_clips < 1:
        raise ValueError(f"batch_clips must be at least 1, got {batch_clips}")
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error must be 'stop' or 'skip', got {on_error!r}")
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision must be 'float32' or 'bfloat16', got {precision!r}")
    if num_augmented_copies < 0:
        raise ValueError(f"num_augmented_copies must not be negative, got {num_augmented_copies}")
    out = Path(out)
    device = choose_device(device)
    tokenizer = load_tokenizer(tokenizer)
    fingerprint = tokenizer.fingerprint
    # Convolutions are faster with the channels last, on CPUs and GPUs.
    tokenizer = tokenizer.to(device, memory_format=torch.channels_last)
    clips = SeededClips(dataset, seed, max(num_augmented_copies, 1), task)
    total = len(clips)
    clips.expect_like(_first_readable(clips, out, on_error))
    shape = clips.shape
    grid = _grid(tokenizer, shape)

    def open_writer() -> TokenStoreWriter:
        return TokenStoreWriter(
            out,
            clip_shape=(shape[0], grid[0] * grid[1]),
            grid=grid,
            num_embeddings=tokenizer.num_embeddings,
            tokenizer_fingerprint=fingerprint,
            precision=precision,
            task=clips.task,
            source=type(dataset).__name__ if source is None else source,
            seed=seed,
            num_augmented_copies=num_augmented_copies,
            source_clips=total,
            source_digest=getattr(dataset, "digest", ""),
            shard_clips=shard_clips,
        )

    def make(writer: TokenStoreWriter, shards: Sequence[int], report: ShardProgress) -> None:
        _encode_shards(clips, tokenizer, writer, shards, batch_clips, num_workers, device, precision, on_error, report)

    make_shards(out, open_writer, total, make, progress, LOCK_SECONDS)
    return TokenStore(out)


def _encode_shards(
    clips: "SeededClips",
    tokenizer: nn.Module,
    writer: TokenStoreWriter,
    shards: Sequence[int],
    batch_clips: int,
    num_workers: int,
    device: torch.device,
    precision: str,
    on_error: str,
    report: ShardProgress,
) -> None:
    """Make the given shards, one after another."""
    size = writer.shard_clips
    bounds = [(number * size, min((number + 1) * size, len(clips))) for number in shards]
    loader = DataLoader(
        clips,
        batch_sampler=[batch for start, stop in bounds for batch in _batches(start, stop, batch_clips)],
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=_one_thread_per_worker,
        pin_memory=device.type == "cuda",
        # Without one, the loader would draw from the caller's random numbers.
        generator=torch.Generator(),
    )
    batches = iter(loader)
    for number, (start, stop) in zip(shards, bounds, strict=True):
        tokens, skipped = [np.empty((0, *writer.clip_shape), np.int64)], []
        for batch in _batches(start, stop, batch_clips):
            read = []
            for sample in next(batches):
                if not isinstance(sample, Unreadable):
                    read.append(sample["inputs"])
                elif on_error == "skip":
                    skipped.append({"clip": sample.clip, "error": sample.error})
                else:
                    raise sample.as_error()
            if read:
                images = torch.cat(read).to(device, non_blocking=True)
                tokens.append(encode_images(tokenizer, images, precision).view(-1, *writer.clip_shape).cpu().numpy())
            report.show(batch.stop - start)
        writer.write_shard(number, np.concatenate(tokens), skipped)
        report.shard_is_finished()


def _first_readable(clips: SeededClips, out: Path, on_error: str) -> dict:
    """The first clip that can be read; its shape is that of the store."""
    for clip in range(len(clips)):
        sample = clips[clip]
        if not isinstance(sample, Unreadable):
            return sample
        if on_error == "stop":
            raise sample.as_error()
    raise ValueError(f"none of the {len(clips)} clips for {out} can be read; the last one: {sample.error}")


def _batches(start: int, stop: int, batch_clips: int) -> Iterator[range]:
    """Clip numbers of each batch of a shard.

    Rounding in a convolution can depend on the batch: the same batches, whether resumed or not, make the same tokens.

    Yields:
        Consecutive numbers, at most ``batch_clips``.
    """
    for first in range(start, stop, batch_clips):
        yield range(first, min(first + batch_clips, stop))


def _grid(tokenizer: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    factor = tokenizer.downsample_factor
    height, width = shape[2:]
    if height % factor or width % factor:
        raise ValueError(
            f"images of {height}x{width} (height x width) cannot be tokenized: the tokenizer needs multiples of "
            f"{factor}; resize or crop in the dataset's pipeline"
        )
    return height // factor, width // factor


def _one_thread_per_worker(_: int) -> None:
    import cv2

    # Each worker would start a thread per core otherwise.
    cv2.setNumThreads(0)
