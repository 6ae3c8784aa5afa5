"""Prompts as they should not be: what is left of a score says whether a model reads its prompt."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from delvm_mm.registry import DATASETS

__all__ = ["PromptControlDataset"]

CONTROLS = ("no_prompt", "shuffled_labels", "other_task", "reversed")


@DATASETS.register_module()
class PromptControlDataset(Dataset):
    """The queries of a prompt dataset behind another prompt; their truth stays.

    Args:
        dataset: What has the samples of a :class:`VisionPromptDataset`, or its config.
        control: 'no_prompt' shows the query alone; 'shuffled_labels' each image with the label of the pair before it;
            'other_task' the pairs of ``other``; 'reversed' the pairs in the opposite order.
        other: With 'other_task', a dataset of the same kind for another task, its images of the same size; query i is
            shown the prompt of its query i, and so on from the beginning.

    Raises:
        ValueError: ``control`` is none of these, or ``other`` is given without need or missing.
    """

    def __init__(self, dataset: dict | Dataset, control: str, other: dict | Dataset | None = None) -> None:
        if control not in CONTROLS:
            raise ValueError(f"control is {control!r}, expected {' or '.join(map(repr, CONTROLS))}")
        if (other is None) == (control == "other_task"):
            raise ValueError(f"other is for control='other_task' and needed there; control is {control!r}")
        self.dataset, self.other = (
            DATASETS.build(each) if isinstance(each, dict) else each for each in (dataset, other)
        )
        self.control = control

    @property
    def metainfo(self) -> dict:
        """That of the queries, which evaluation reads."""
        return dict(getattr(self.dataset, "metainfo", {}))

    @property
    def choice(self) -> dict[str, Any]:
        """How prompts are chosen, to be noted with results."""
        return dict(getattr(self.dataset, "choice", {}), control=self.control)

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        """A prompt with its query.

        Args:
            index: From 0 to ``len(self) - 1``.

        Returns:
            As the dataset's; ``prompt_images`` are those that are shown.

        Raises:
            ValueError: There is one pair and its label was to be shuffled, or images of ``other`` have another size.
        """
        given = self.dataset[index]
        prompt, query = given["inputs"][:-1], given["inputs"][-1:]
        prompt = self._changed(prompt, index)
        if prompt.shape[1:] != query.shape[1:]:
            raise ValueError(
                f"prompts of another task are {tuple(prompt.shape[1:])} images, the query is {tuple(query.shape[1:])} "
                "(channels, height, width): give tasks whose images have one size"
            )
        sample = given["data_samples"]
        sample.prompt_images = np.ascontiguousarray(prompt.permute(0, 2, 3, 1).numpy())
        return {"inputs": torch.cat((prompt, query)), "data_samples": sample}

    def _changed(self, prompt: Tensor, index: int) -> Tensor:
        if self.control == "no_prompt":
            return prompt[:0]
        if self.control == "other_task":
            return self.other[index % len(self.other)]["inputs"][:-1]
        pairs = prompt.unflatten(0, (-1, 2))
        if self.control == "reversed":
            return pairs.flip(0).flatten(0, 1)
        if len(pairs) < 2:
            raise ValueError("control='shuffled_labels' needs two pairs or more, and the prompts have one (num_pairs)")
        return torch.stack((pairs[:, 0], pairs[:, 1].roll(1, 0)), 1).flatten(0, 1)
