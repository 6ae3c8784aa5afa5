"""Vision prompts: K (image, label) pairs and a query image, whose label the model is to write."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import Dataset

from delvm_mm.datasets.image_features import CodebookHistograms, ImageFeatures
from delvm_mm.datasets.prompt_samples import SupportLabels, check_sample, pack_prompt
from delvm_mm.registry import DATASETS, TASK_UTILS

__all__ = ["VisionPromptDataset"]

SELECTIONS = ("fixed", "random", "class", "nearest")


@DATASETS.register_module()
class VisionPromptDataset(Dataset):
    """Pairs of ``support`` before each image of ``query``.

    Both are clip datasets whose pipeline ends with ``DrawLabel``: their samples are dicts with ``img``, ``label``,
    ``annotation`` and ``task``. Where both are the same (the same object or equal configs), no query is shown its own
    pair, and in no case its own image (``img_path``) under another label: with 'random' and 'class' that is never
    drawn, with 'fixed' the images of the prompt are no queries (if the datasets name theirs in ``img_paths``, a
    sequence; else only the clips of the prompt).

    Args:
        support: The dataset of pairs, or its config.
        query: The dataset of queries, or its config.
        num_pairs: Pairs K in a prompt.
        selection: 'fixed' shows all queries the same pairs; 'random' draws pairs for each query, by seed and query;
            'class' draws them so among those of the query's class. For 'class' both datasets have ``class_ids``: the
            class of every sample, negative where it is not known, as :class:`Pascal5iDataset` has. 'nearest' shows
            the pairs whose images are most like the query by ``features``, the most alike last, beside the query; the
            features of all images of ``support`` are computed first.
        seed: Seed of the choice.
        prompt_indices: With 'fixed', the positions in ``support`` of the K pairs, in the order shown; drawn by seed
            if not given.
        tokenizer: With 'nearest', short for ``features=dict(type='CodebookHistograms', tokenizer=...)``: images are
            alike by the codes that they are made of.
        device: With 'nearest', where to compute features; by default a GPU if there is one. With worker processes it
            has to be the CPU.
        features: With 'nearest', by what images are alike, an :class:`ImageFeatures` or its config:
            ``CodebookHistograms``, ``TokenizerFeatures`` or ``BackboneFeatures``.
        same_class: With 'nearest', whether to choose among the pairs of the query's class alone, as 'class' does.
        diversity: With 'nearest', how much being unlike the pairs chosen before counts beside being like the query
            (maximal marginal relevance, Carbonell and Goldstein, 1998): from 0, the default, to below 1.

    Raises:
        ValueError: More pairs are asked for than there are (of each class, with 'class' or ``same_class``),
            ``prompt_indices`` does not fit, or arguments are given that ``selection`` does not use.
    """

    def __init__(
        self,
        support: dict | Dataset,
        query: dict | Dataset,
        num_pairs: int = 3,
        selection: str = "fixed",
        seed: int = 0,
        prompt_indices: Sequence[int] | None = None,
        tokenizer: str | dict | nn.Module | None = None,
        device: str | None = None,
        features: dict | ImageFeatures | None = None,
        same_class: bool = False,
        diversity: float = 0.0,
    ) -> None:
        if selection not in SELECTIONS:
            raise ValueError(f"selection must be {' or '.join(map(repr, SELECTIONS))}, got {selection!r}")
        _check_nearest(selection, tokenizer, features, same_class, diversity)
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
        self.same_class = same_class or selection == "class"
        self.diversity = diversity
        available = len(self.support) - (1 if self._same else 0)
        if num_pairs > available:
            raise ValueError(
                f"num_pairs is {num_pairs}, but the support dataset has {len(self.support)} clips"
                + (", one of which is the query" if self._same else "")
                + ": lower num_pairs or give a larger support dataset"
            )
        self.prompt_indices = self._fixed_indices(prompt_indices)
        self.query_indices = np.arange(len(self.query))
        if selection == "fixed":
            self.query_indices = np.setdiff1d(self.query_indices, self._shown_queries())
        if self.same_class:
            self._query_classes, self._of_class = self._classes()
        if selection == "nearest":
            self.features = _build_features(features or dict(type=CodebookHistograms, tokenizer=tokenizer), device)
            self._support_features = self.features.of(_ImagesOf(self.support))
        if len(self.query_indices) == 0:
            raise ValueError("the query dataset is empty: nothing to predict")
        self._fixed_pairs: list[dict] | None = None
        self._support_labels = SupportLabels(self.support)

    @property
    def metainfo(self) -> dict:
        """That of the query dataset, which evaluation reads, and ``support_labels``: a :class:`SupportLabels`."""
        return dict(getattr(self.query, "metainfo", {}), support_labels=self._support_labels)

    @property
    def choice(self) -> dict[str, Any]:
        """How prompts are chosen, to be noted with results."""
        indices = None if self.prompt_indices is None else list(self.prompt_indices)
        choice = dict(selection=self.selection, num_pairs=self.num_pairs, seed=self.seed, prompt_indices=indices)
        if self.selection == "nearest":
            choice |= dict(features=type(self.features).__name__, same_class=self.same_class, diversity=self.diversity)
        return choice

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.query_indices)

    def __getitem__(self, index: int) -> dict:
        """One prompt with its query.

        Args:
            index: From 0 to ``len(self) - 1``.

        Returns:
            ``inputs``: uint8 tensor (2K+1) x 3 x H x W: image and label of each pair, then the query.
            ``data_samples``: DataSample. Metainfo: ``task``, ``sample_idx``, ``img_path`` or ``name`` of the
            query, its ``img_id``, ``id``, ``class_id`` and ``class_name`` where it has them, ``prompt`` (positions of
            the pairs in ``support``). Data: ``annotation`` of the query, ``label_image`` and ``query_image``
            (uint8 H x W x 3), ``prompt_images`` (uint8 2K x H x W x 3); ``affine``, ``ori_shape`` and
            ``ori_annotation`` of the query where its pipeline has them, for scores at the original's size.

        Raises:
            IndexError: There is no such query.
            ValueError: Too few pairs show other images than the query's, or the images do not fit together.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"query {index} of {len(self)}")
        position = int(self.query_indices[index])
        query = self.query[position]
        check_sample(query, "query", position)
        prompt, pairs = self._fixed_prompt() if self.selection == "fixed" else self._draw(position, query)
        return pack_prompt(query, position, tuple(prompt), pairs)

    def _fixed_indices(self, given: Sequence[int] | None) -> tuple[int, ...] | None:
        if self.selection != "fixed":
            if given is not None:
                raise ValueError(f"prompt_indices needs selection='fixed'; with {self.selection!r} the pairs are drawn")
            return None
        if given is None:
            return tuple(islice(self._candidates(None), self.num_pairs))
        indices = tuple(int(index) for index in given)
        if len(indices) != self.num_pairs or len(set(indices)) != len(indices):
            raise ValueError(f"prompt_indices must be {self.num_pairs} different numbers (num_pairs), got {indices}")
        if min(indices) < 0 or max(indices) >= len(self.support):
            raise ValueError(
                f"prompt_indices {indices} are not all in the support dataset of {len(self.support)} clips"
            )
        return indices

    def _shown_queries(self) -> list[int]:
        """Positions of queries that the fixed prompt gives away."""
        shown = list(self.prompt_indices) if self._same else []
        support, query = (getattr(dataset, "img_paths", None) for dataset in (self.support, self.query))
        if support is not None and query is not None:
            images = {os.path.abspath(support[index]) for index in self.prompt_indices}
            shown += [index for index, path in enumerate(query) if os.path.abspath(path) in images]
        return shown

    def _classes(self) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Class of each query, and positions of each class in ``support``."""
        ids = []
        asked = f"selection={self.selection!r}" + (" with same_class" if self.selection == "nearest" else "")
        for role, dataset in (("support", self.support), ("query", self.query)):
            given = getattr(dataset, "class_ids", None)
            if given is None or len(given) != len(dataset):
                raise ValueError(
                    f"{asked} needs class_ids, the class of each of its {len(dataset)} samples, of the "
                    f"{role} dataset, and {type(dataset).__name__} has {'none' if given is None else len(given)}: "
                    "use Pascal5iDataset, or selection='random'"
                )
            ids.append(np.asarray(given))
        support, query = ids
        positions = {int(number): np.flatnonzero(support == number) for number in np.unique(query[query >= 0])}
        few = {number: len(those) for number, those in positions.items() if len(those) < self.num_pairs + self._same}
        if few:
            raise ValueError(
                f"num_pairs is {self.num_pairs}, but the support dataset has too few clips of some classes of the "
                f"queries (class: clips): {few}"
                + (", one of which is the query" if self._same else "")
                + ": lower num_pairs or give a larger support dataset of these classes"
            )
        return query, positions

    def _pool(self, query: int | None) -> Sequence[int]:
        """Positions in ``support`` that one query may be shown, or all queries (None), its own among them."""
        if self.same_class:
            return self._of_class.get(int(self._query_classes[query]), ())
        return range(len(self.support))

    def _candidates(self, query: int | None) -> Iterator[int]:
        """Positions that may be shown, in the order of the draw, each once."""
        # RandomState: its stream is promised not to change between numpy versions.
        random = np.random.RandomState([self.seed] if query is None else [self.seed, query])
        pool = self._pool(query)
        drawn = set()
        while len(drawn) < len(pool):
            candidate = int(pool[random.randint(len(pool))])
            if candidate not in drawn:
                drawn.add(candidate)
                if not (self._same and candidate == query):
                    yield candidate

    def _nearest(self, query: int, image: np.ndarray, shown: Sequence[int]) -> Iterator[int]:
        """Positions that may be shown, the best first, each once; ``shown`` grows while this goes on."""
        pool = np.array([number for number in self._pool(query) if not (self._same and number == query)], np.int64)
        features = self._support_features[pool]
        likeness = self.features.likeness(features, self.features.of_one(image))
        if not self.diversity:
            yield from pool[np.argsort(-likeness, kind="stable")].tolist()
            return
        score = likeness.astype(np.float64)
        repeated = np.full(len(pool), -np.inf)  # likeness to the one shown that is most like it
        for _ in range(len(pool)):
            best = int(score.argmax())
            yield int(pool[best])
            likeness[best] = -np.inf
            if len(shown) and shown[-1] == pool[best]:
                repeated = np.maximum(repeated, self.features.likeness(features, features[best]))
            known = repeated if len(shown) else 0.0
            score = (1 - self.diversity) * likeness - self.diversity * known

    def _draw(self, position: int, query: dict) -> tuple[tuple[int, ...], list[dict]]:
        """K different pairs for one query, and their positions; none shows the query's image."""
        prompt, pairs = [], []
        nearest = self.selection == "nearest"
        candidates = self._nearest(position, query["img"], prompt) if nearest else self._candidates(position)
        for candidate in candidates:
            pair = self._pair(candidate)
            if not _same_image(pair, query):
                prompt.append(candidate)
                pairs.append(pair)
            if len(pairs) == self.num_pairs:
                order = -1 if nearest else 1
                return tuple(prompt[::order]), pairs[::order]
        raise ValueError(
            f"query {position} ({query.get('img_path')}"
            + (f", class {query.get('class_name', self._query_classes[position])}" if self.same_class else "")
            + f") can be shown {len(pairs)} pairs of other images, expected {self.num_pairs} (num_pairs): lower "
            "num_pairs or give a larger support dataset"
        )

    def _fixed_prompt(self) -> tuple[tuple[int, ...], list[dict]]:
        if self._fixed_pairs is None:
            self._fixed_pairs = [self._pair(number) for number in self.prompt_indices]
        return self.prompt_indices, self._fixed_pairs

    def _pair(self, number: int) -> dict:
        pair = self.support[number]
        check_sample(pair, "support", number)
        return pair


class _ImagesOf:
    """The images of a dataset of pairs."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> np.ndarray:
        pair = self.dataset[number]
        check_sample(pair, "support", number)
        return pair["img"]


def _build(dataset: dict | Dataset) -> Any:
    return DATASETS.build(dataset) if isinstance(dataset, dict) else dataset


def _check_nearest(selection: str, tokenizer: Any, features: Any, same_class: bool, diversity: float) -> None:
    """Check the arguments of selection='nearest'."""
    given = dict(tokenizer=tokenizer is not None, features=features is not None)
    if selection == "nearest":
        if sum(given.values()) != 1:
            raise ValueError(
                "tokenizer is for selection='nearest', which needs it or features, and not both: got "
                + (" and ".join(name for name, is_given in given.items() if is_given) or "none of them")
            )
        if isinstance(diversity, bool) or not 0 <= diversity < 1:
            raise ValueError(f"diversity is {diversity!r}, expected 0 (likeness alone) to below 1")
        return
    given |= dict(same_class=bool(same_class), diversity=bool(diversity))
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise ValueError(f"{wrong[0]} is for selection='nearest', and selection is {selection!r}")


def _build_features(features: dict | ImageFeatures, device: str | None) -> ImageFeatures:
    if not isinstance(features, dict):
        return features
    return TASK_UTILS.build(({} if device is None else dict(device=device)) | features)


def _same_image(pair: dict, query: dict) -> bool:
    paths = [sample.get("img_path") for sample in (pair, query)]
    return None not in paths and os.path.abspath(paths[0]) == os.path.abspath(paths[1])
