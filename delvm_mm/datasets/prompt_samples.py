"""What a loader gives of a prompt: image and label of each pair, the query, and the query's truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from delvm_mm.codecs.base import META_KEYS
from delvm_mm.codecs.mapping import ORIGINAL_KEYS, TILE_KEY
from delvm_mm.structures import DataSample

__all__ = ["SupportLabels", "check_sample", "pack_prompt"]


class SupportLabels:
    """Labels of the dataset that prompts are from, read when they are asked for: evaluation scores their mean.

    Args:
        support: The dataset of pairs.
        limit: Most labels to read; of a larger dataset those spread evenly over it.
    """

    def __init__(self, support: Dataset, limit: int = 100) -> None:
        self.support = support
        self.limit = limit

    def read(self) -> np.ndarray | None:
        """Read them.

        Returns:
            uint8, N x H x W x 3; None where they differ in size, so that they have no mean.

        Raises:
            ValueError: A sample did not go through ``DrawLabel``.
        """
        count = min(self.limit, len(self.support))
        labels = []
        for position in np.linspace(0, len(self.support) - 1, count).round().astype(int).tolist():
            sample = self.support[position]
            check_sample(sample, "support", position)
            labels.append(sample["label"])
        return np.stack(labels) if len({label.shape for label in labels}) == 1 else None


def check_sample(sample: Any, role: str, number: int) -> None:
    """Check that a sample went through ``DrawLabel``.

    Args:
        sample: Of a dataset of pairs.
        role: What the dataset is for, 'support' or 'query'.
        number: Position of the sample in it.

    Raises:
        ValueError: It has no image, label or annotation.
    """
    missing = [key for key in ("img", "label", "annotation") if not isinstance(sample, dict) or key not in sample]
    if missing:
        raise ValueError(
            f"sample {number} of the {role} dataset lacks {', '.join(missing)}: its pipeline must end with DrawLabel"
        )


def pack_prompt(
    query: dict, position: int, prompt: Sequence[int], pairs: Sequence[dict], answered: bool = False
) -> dict:
    """Put pairs before a query.

    Args:
        query: Results dict of the query after ``DrawLabel``: ``img`` and ``label`` (uint8 H x W x 3), ``annotation``.
        position: Of the query in its dataset.
        prompt: Positions of the pairs in theirs.
        pairs: Results dicts of the K pairs, in the order shown.
        answered: Whether the query's label comes last in ``inputs``, for a model to score it instead of drawing one.

    Returns:
        ``inputs`` and ``data_samples``, as :class:`VisionPromptDataset` gives them.

    Raises:
        ValueError: Images differ in size, or samples in their task.
    """
    for number, pair in zip(prompt, pairs, strict=True):
        if pair["img"].shape != query["img"].shape or pair.get("task") != query.get("task"):
            raise ValueError(
                f"support clip {number} is a {pair['img'].shape} image of task {pair.get('task')!r}, query "
                f"{position} a {query['img'].shape} image of task {query.get('task')!r}: expected the same; "
                "give both datasets the same codec and the same resizing and cropping"
            )
    prompt_images = np.stack([pair[key] for pair in pairs for key in ("img", "label")])
    asked = [query["img"], query["label"]] if answered else [query["img"]]
    inputs = np.concatenate([prompt_images, np.stack(asked)]).transpose(0, 3, 1, 2)
    metainfo = {key: query[key] for key in META_KEYS if key in query}
    sample = DataSample(
        metainfo=dict(metainfo, sample_idx=query.get("sample_idx", position), prompt=tuple(prompt)),
        annotation=query["annotation"],
        label_image=query["label"],
        query_image=query["img"],
        prompt_images=prompt_images,
        **{key: query[key] for key in (*ORIGINAL_KEYS, TILE_KEY) if key in query},
    )
    return {"inputs": torch.from_numpy(np.ascontiguousarray(inputs)), "data_samples": sample}
