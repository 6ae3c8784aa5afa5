"""Bulk tokenization: a clip dataset through the tokenizer, batched on the device, into a token store."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from delvm_mm.models.tokenizers import load_tokenizer

from .token_store import TokenStore, TokenStoreWriter

__all__ = ["encode_pictures", "tokenize_clips"]


def tokenize_clips(
    dataset: Dataset,
    tokenizer: str | Path | dict | nn.Module,
    out: str | Path,
    *,
    source: Any = None,
    seed: int = 0,
    num_augmented_copies: int = 0,
    shard_clips: int = 512,
    batch_clips: int = 16,
    num_workers: int = 0,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TokenStore:
    """Tokenize all clips of a dataset into a token store.

    A run that stopped is continued at its next shard and ends with the same bytes: batches never reach over a shard,
    and what is random in a clip is seeded by ``seed`` and the number of the clip. A finished store is left alone.

    Args:
        dataset: Clips of one task; samples end with ``PackClip``.
        tokenizer: As for :func:`delvm_mm.models.load_tokenizer`.
        out: Folder of the store.
        source: Where the clips come from, for the index; any JSON value. By default, the name of the dataset's class.
        seed: Seed of augmentations.
        num_augmented_copies: Noted in the index.
        shard_clips: Clips in a shard; a killed run loses at most one shard.
        batch_clips: Clips encoded together.
        num_workers: Processes that read or render clips.
        device: Where to encode; by default a GPU if there is one.
        progress: Called with (clips done, clips in all), first with what an earlier run has done.

    Returns:
        The finished store.

    Raises:
        FileExistsError: ``out`` holds a store with other settings, or something else.
        ValueError: The dataset is empty, or its clips differ in shape or task.
    """
    if len(dataset) == 0:
        raise ValueError(f"nothing to tokenize into {out}: the dataset {type(dataset).__name__} is empty")
    if batch_clips < 1:
        raise ValueError(f"batch_clips must be at least 1, got {batch_clips}")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tokenizer = load_tokenizer(tokenizer).to(device)
    clips = _SeededClips(dataset, seed)
    first = clips[0]
    shape, task = tuple(first["inputs"].shape), _task_of(first, 0)
    grid = _grid(tokenizer, shape)
    writer = TokenStoreWriter(
        out,
        clip_shape=(shape[0], grid[0] * grid[1]),
        grid=grid,
        num_embeddings=tokenizer.num_embeddings,
        tokenizer_fingerprint=tokenizer.fingerprint,
        task=task,
        source=type(dataset).__name__ if source is None else source,
        seed=seed,
        num_augmented_copies=num_augmented_copies,
        shard_clips=shard_clips,
    )
    total = len(dataset)
    ended_early = writer.complete or writer.num_clips % shard_clips
    if writer.num_clips > total or (ended_early and writer.num_clips != total):
        raise FileExistsError(
            f"{out} holds {writer.num_clips} clips{' and is complete' if writer.complete else ''}, "
            f"but the dataset has {total}: it was made from other data. Write to another folder, or delete this one"
        )
    progress = progress or _ignore
    progress(writer.num_clips, total)
    if writer.complete:
        return TokenStore(out)
    loader = DataLoader(
        clips,
        batch_sampler=list(_batches(writer.num_clips, total, shard_clips, batch_clips)),
        num_workers=num_workers,
        collate_fn=pseudo_collate,
        worker_init_fn=_one_thread_per_worker,
        pin_memory=device.type == "cuda",
        # Without one, the loader would draw from the caller's random numbers.
        generator=torch.Generator(),
    )
    done = writer.num_clips
    for batch in loader:
        _check_batch(batch, shape, task, done)
        pictures = torch.cat(batch["inputs"]).to(device, non_blocking=True)
        tokens = encode_pictures(tokenizer, pictures)
        writer.add(tokens.view(-1, shape[0], tokens.shape[1]).cpu().numpy())
        done += len(batch["inputs"])
        progress(done, total)
    writer.finish()
    return TokenStore(out)


@torch.inference_mode()
def encode_pictures(tokenizer: nn.Module, pictures: Tensor) -> Tensor:
    """Tokens of uint8 pictures.

    Args:
        tokenizer: Its ``encode`` takes floats in [0, 1].
        pictures: uint8, N×3×H×W, RGB, on the tokenizer's device.

    Returns:
        LongTensor N×(h*w).
    """
    return tokenizer.encode(pictures.float() / 255)


class _SeededClips(Dataset):
    """The dataset with Python's, numpy's and torch's random numbers seeded by the number of the clip.

    So a clip is the same in whichever process and after however many others it is made.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, clip: int) -> dict:
        with _seeded(self.seed, clip):
            sample = self.dataset[clip]
        inputs = sample.get("inputs") if isinstance(sample, dict) else None
        if not isinstance(inputs, Tensor) or inputs.dtype != torch.uint8 or inputs.ndim != 4 or inputs.shape[1] != 3:
            raise ValueError(
                f"clip {clip} has no uint8 'inputs' of k x 3 x H x W: the dataset's pipeline must end with PackClip"
            )
        return sample


@contextmanager
def _seeded(seed: int, clip: int) -> Iterator[None]:
    """Seed the global random numbers, and give them back as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    numbers = np.random.SeedSequence([seed, clip]).generate_state(3)
    random.seed(int(numbers[0]))
    np.random.seed(numbers[1])
    torch.default_generator.manual_seed(int(numbers[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _batches(start: int, stop: int, shard_clips: int, batch_clips: int) -> Iterator[range]:
    """Clip numbers of each batch, never reaching over the end of a shard.

    Rounding in a convolution can depend on the batch: the same batches, whether resumed or not, make the same tokens.
    """
    while start < stop:
        end = min(start + batch_clips, stop, start - start % shard_clips + shard_clips)
        yield range(start, end)
        start = end


def _grid(tokenizer: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    factor = tokenizer.downsample_factor
    height, width = shape[2:]
    if height % factor or width % factor:
        raise ValueError(
            f"pictures of {height}x{width} (height x width) cannot be tokenized: the tokenizer needs multiples of "
            f"{factor}; resize or crop in the dataset's pipeline"
        )
    return height // factor, width // factor


def _task_of(sample: dict, clip: int) -> str:
    task = getattr(sample.get("data_samples"), "task", None)
    if not isinstance(task, str):
        raise ValueError(f"clip {clip} has no 'task' in its data sample: the dataset must set 'task' in its results")
    return task


def _check_batch(batch: dict, shape: tuple[int, ...], task: str, start: int) -> None:
    samples = zip(batch["inputs"], batch["data_samples"], strict=True)
    for clip, (inputs, sample) in enumerate(samples, start):
        if tuple(inputs.shape) != shape:
            name = sample.get("img_path", None) or f"clip {clip}"
            raise ValueError(
                f"{name} has pictures of shape {tuple(inputs.shape)} (k x 3 x H x W), the clips before {shape}: "
                "all clips of a store must agree; resize and crop in the dataset's pipeline"
            )
        if _task_of({"data_samples": sample}, clip) != task:
            raise ValueError(
                f"clip {clip} is of task {sample.task!r}, the clips before of {task!r}: one store, one task"
            )


def _one_thread_per_worker(_: int) -> None:
    import cv2

    # Each worker would start a thread per core otherwise.
    cv2.setNumThreads(0)


def _ignore(done: int, total: int) -> None:
    """No progress shown."""
