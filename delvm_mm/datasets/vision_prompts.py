"""Vision prompts: K (picture, label) pairs and a query picture, whose label the model is to write."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from delvm_mm.registry import DATASETS

__all__ = ["VisionPromptDataset"]


@DATASETS.register_module()
class VisionPromptDataset(Dataset):
    """Pairs of ``support`` before each picture of ``query``.

    Both are clip datasets whose pipeline ends with ``DrawLabel``: their samples are dicts with ``img``, ``label``,
    ``annotation`` and ``task``. Where both are the same (the same object or equal configs), no query is shown its own
    pair: with 'random' it is never drawn, with 'fixed' the clips of the prompt are no queries.

    Args:
        support: The dataset of pairs, or its config.
        query: The dataset of queries, or its config.
        num_pairs: Pairs K in a prompt.
        selection: 'fixed' shows all queries the same pairs; 'random' draws pairs for each query, by seed and query.
        seed: Seed of the choice.
        prompt_indices: With 'fixed', the positions in ``support`` of the K pairs, in the order shown; drawn by seed
            if not given.

    Raises:
        ValueError: More pairs are asked for than there are, or ``prompt_indices`` does not fit.
    """

    def __init__(
        self,
        support: dict | Dataset,
        query: dict | Dataset,
        num_pairs: int = 3,
        selection: str = "fixed",
        seed: int = 0,
        prompt_indices: Sequence[int] | None = None,
    ) -> None:
        if selection not in ("fixed", "random"):
            raise ValueError(f"selection must be 'fixed' or 'random', got {selection!r}")
        if num_pairs < 1:
            raise ValueError(f"num_pairs must be at least 1, got {num_pairs}")
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed must be from 0 to 2**32 - 1, got {seed}")
        # Equal configs only: two dataset objects are compared by identity.
        self._same = support is query or (isinstance(support, dict) and isinstance(query, dict) and support == query)
        self.support = _build(support)
        self.query = self.support if self._same else _build(query)
        self.num_pairs = num_pairs
        self.selection = selection
        self.seed = seed
        available = len(self.support) - (1 if self._same else 0)
        if num_pairs > available:
            raise ValueError(
                f"num_pairs is {num_pairs}, but the support dataset has {len(self.support)} clips"
                + (", one of which is the query" if self._same else "")
                + ": lower num_pairs or give a larger support dataset"
            )
        self.prompt_indices = self._fixed_indices(prompt_indices)
        self.query_indices = np.arange(len(self.query))
        if self._same and selection == "fixed":
            self.query_indices = np.setdiff1d(self.query_indices, self.prompt_indices)
        if len(self.query_indices) == 0:
            raise ValueError("the query dataset is empty: nothing to predict")
        self._fixed_pairs: list[dict] | None = None

    @property
    def metainfo(self) -> dict:
        """That of the query dataset, which evaluation reads."""
        return dict(getattr(self.query, "metainfo", {}))

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.query_indices)

    def __getitem__(self, index: int) -> dict:
        """One prompt with its query.

        Args:
            index: From 0 to ``len(self) - 1``.

        Returns:
            ``inputs``: uint8 tensor (2K+1) × 3 × H × W: picture and label of each pair, then the query.
            ``data_samples``: BaseDataElement. Metainfo: ``task``, ``sample_idx``, ``img_path`` or ``name`` of the
            query, ``prompt`` (positions of the pairs in ``support``). Data: ``annotation`` of the query,
            ``label_picture`` and ``query_picture`` (uint8 H×W×3), ``prompt_pictures`` (uint8 2K×H×W×3).
        """
        if not 0 <= index < len(self):
            raise IndexError(f"query {index} of {len(self)}")
        position = int(self.query_indices[index])
        query = self.query[position]
        _check_sample(query, "query", position)
        prompt = self.prompt_indices if self.selection == "fixed" else self._draw(position)
        pairs = self._pairs(prompt)
        pictures = [pair[key] for pair in pairs for key in ("img", "label")]
        for number, pair in zip(prompt, pairs, strict=True):
            if pair["img"].shape != query["img"].shape or pair.get("task") != query.get("task"):
                raise ValueError(
                    f"support clip {number} is a {pair['img'].shape} picture of task {pair.get('task')!r}, query "
                    f"{position} a {query['img'].shape} picture of task {query.get('task')!r}: expected the same; "
                    "give both datasets the same codec and the same resizing and cropping"
                )
        prompt_pictures = np.stack(pictures)
        inputs = np.concatenate([prompt_pictures, query["img"][None]]).transpose(0, 3, 1, 2)
        metainfo = {key: query[key] for key in ("task", "img_path", "name") if key in query}
        sample = BaseDataElement(
            metainfo=dict(metainfo, sample_idx=query.get("sample_idx", position), prompt=tuple(prompt)),
            annotation=query["annotation"],
            label_picture=query["label"],
            query_picture=query["img"],
            prompt_pictures=prompt_pictures,
        )
        return {"inputs": torch.from_numpy(np.ascontiguousarray(inputs)), "data_samples": sample}

    def _fixed_indices(self, given: Sequence[int] | None) -> tuple[int, ...] | None:
        if self.selection == "random":
            if given is not None:
                raise ValueError("prompt_indices needs selection='fixed'; with 'random' the pairs are drawn")
            return None
        if given is None:
            return self._draw(None)
        indices = tuple(int(index) for index in given)
        if len(indices) != self.num_pairs or len(set(indices)) != len(indices):
            raise ValueError(f"prompt_indices must be {self.num_pairs} different numbers (num_pairs), got {indices}")
        if min(indices) < 0 or max(indices) >= len(self.support):
            raise ValueError(
                f"prompt_indices {indices} are not all in the support dataset of {len(self.support)} clips"
            )
        return indices

    def _draw(self, query: int | None) -> tuple[int, ...]:
        """Positions of K different pairs for one query, or for all (None); never the query itself."""
        # RandomState: its stream is promised not to change between numpy versions.
        random = np.random.RandomState([self.seed] if query is None else [self.seed, query])
        excluded = query if self._same else None
        chosen: list[int] = []
        while len(chosen) < self.num_pairs:
            candidate = int(random.randint(len(self.support)))
            if candidate != excluded and candidate not in chosen:
                chosen.append(candidate)
        return tuple(chosen)

    def _pairs(self, prompt: Sequence[int]) -> list[dict]:
        if self._fixed_pairs is not None:
            return self._fixed_pairs
        pairs = [self.support[number] for number in prompt]
        for number, pair in zip(prompt, pairs, strict=True):
            _check_sample(pair, "support", number)
        if self.selection == "fixed":
            self._fixed_pairs = pairs
        return pairs


def _build(dataset: dict | Dataset) -> Any:
    return DATASETS.build(dataset) if isinstance(dataset, dict) else dataset


def _check_sample(sample: Any, role: str, number: int) -> None:
    missing = [key for key in ("img", "label", "annotation") if not isinstance(sample, dict) or key not in sample]
    if missing:
        raise ValueError(
            f"sample {number} of the {role} dataset lacks {', '.join(missing)}: its pipeline must end with DrawLabel"
        )
