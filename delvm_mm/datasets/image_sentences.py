"""Visual sentences from images themselves: no token store, and another augmentation in every epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from delvm_mm.datasets.seeded_clips import SeededClips, seeded
from delvm_mm.datasets.visual_sentences import VisualSentenceDataset
from delvm_mm.models import load_tokenizer
from delvm_mm.models.tokenizers.images import encode_images
from delvm_mm.registry import DATASETS

__all__ = ["ImageSentenceDataset"]


@DATASETS.register_module()
class ImageSentenceDataset(VisualSentenceDataset):
    """Sentences as :class:`VisualSentenceDataset` gives them, tokenized while they are read.

    For small data with strong augmentation, or a first try. Every sentence costs the tokenizer's encoder, in the
    process that reads it; a store costs it once (``docs/datasets.md`` has both rates). In epoch e clip i draws from
    random numbers seeded by ``seed`` and ``e * clips + i``: what ``delvm tokenize`` would have written as
    augmented copy e. So a sentence is the same in any worker and after resuming.

    Args:
        datasets: Data sets of clips, or their configs; their pipelines end with ``PackClip``. Each is one task.
        tokenizer: A tokenizer, its folder, ``dict(pretrained=folder)``, or a config ``dict(type='VQGAN', ...)``. It
            stays on the CPU; give the model the same.
        context: Context length of the model in tokens; sentences are at most this long.
        seed: Seed of the grouping of clips and of whatever is random in them.

    Attributes:
        sentence_length, num_embeddings, grid, tokenizer_fingerprint, tasks, sentences_per_store: As in
            :class:`VisualSentenceDataset`.

    Raises:
        ValueError: There is no data set, one has too few clips, its pipeline makes no clips, or the tasks or sizes of
            its clips differ.
    """

    def __init__(
        self,
        datasets: Sequence[Mapping[str, Any] | Dataset],
        tokenizer: str | Path | Mapping[str, Any] | nn.Module,
        context: int = 2048,
        seed: int = 0,
    ) -> None:
        if isinstance(datasets, (Mapping, Dataset)):
            datasets = [datasets]
        if not datasets:
            raise ValueError("datasets is empty: expected at least one data set of clips")
        tokenizer = load_tokenizer(tokenizer)
        clips = [
            _ImageClips(DATASETS.build(dict(dataset)) if isinstance(dataset, Mapping) else dataset, tokenizer, seed)
            for dataset in datasets
        ]
        self._lay_end_to_end(clips, context, "random", seed)

    def _inputs(self, store: "_ImageClips", clips: Sequence[int], epoch: int) -> Tensor:
        return store.read(clips, epoch)

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """The sentences of a batch, as PyTorch's ``DataLoader`` asks for them."""
        return [self[index] for index in indices]


class _ImageClips:
    """Clips of one task with the attributes of a token store."""

    complete = True
    num_augmented_copies = 0

    def __init__(self, dataset: Dataset, tokenizer: nn.Module, seed: int) -> None:
        if len(dataset) == 0:
            raise ValueError(f"{_name_of(dataset)} has no samples")
        self.dataset, self.tokenizer, self.seed = dataset, tokenizer, seed
        self.path = _name_of(dataset)
        self._clips = SeededClips(dataset, seed, copies=1)
        with seeded(seed, 0):
            first = dataset[0]
        self._clips.check(first, 0)
        self._clips.expect_like(first)
        self.task = self._clips.task
        images, _, height, width = first["inputs"].shape
        factor = tokenizer.downsample_factor
        self.grid = height // factor, width // factor
        self.clip_shape = images, self.grid[0] * self.grid[1]
        self.num_embeddings = tokenizer.num_embeddings
        self.tokenizer_fingerprint = tokenizer.fingerprint

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, clips: Sequence[int], epoch: int) -> Tensor:
        """Tokens of clips one after another, int64."""
        images = []
        for clip in clips:
            number = epoch * len(self) + clip
            with seeded(self.seed, number):
                sample = self.dataset[clip]
            self._clips.check(sample, number)
            images.append(sample["inputs"])
        return encode_images(self.tokenizer, torch.cat(images)).flatten()


def _name_of(dataset: Dataset) -> str:
    root = getattr(dataset, "data_root", None)
    return f"{type(dataset).__name__} of {root}" if root else type(dataset).__name__
