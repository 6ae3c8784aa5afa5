"""Pascal-5i by its published lists: foreground segmentation of Bar et al., and few-shot episodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.codecs.squashed import squash
from delvm_mm.datasets.image_features import ImageFeatures
from delvm_mm.datasets.protocols.base import Episode, ProtocolDataset, draw_others, read_lines, require_files
from delvm_mm.datasets.readers.io.image import read_image
from delvm_mm.datasets.readers.pascal5i import IGNORED, NUM_FOLDS, PASCAL_CLASSES, read_label_map
from delvm_mm.registry import DATASETS, TASK_UTILS

__all__ = ["NearestPascalEpisodes", "PascalEpisodes", "check_folds"]

BORDERS = ("background", "ignored")


@DATASETS.register_module()
class PascalEpisodes(ProtocolDataset):
    """Queries of the published lists of Pascal-5i, each with pairs of its class from the same list.

    Query i of a fold is line ``i % n`` of its list; its pairs are drawn from the lines of its class, never the query
    itself, for 1000 queries a fold from one stream seeded for each fold: what is drawn when the list has come round
    differs from the first time. With one pair these are the draws of Bar et al., "Visual Prompting via Image
    Inpainting", NeurIPS 2022; with one and more those of HSNet (Min et al., ICCV 2021) and of what was built upon it,
    where a pair may come twice. Both with seed 0.

    The layout is that of VOC 2012 with SBD's label maps as PNG, ``SegmentationClassAug``, for all images; a line of a
    list is ``2007_000033__01``: an image and its class, 1 to 20.

    Args:
        data_root: ``VOCdevkit/VOC2012``.
        lists: Folder with ``fold0.txt`` to ``fold3.txt``, the validation lists.
        folds: Which folds, in this order.
        border: Pixels that the label maps leave out (255): 'background', as Bar et al. score, or 'ignored', as in
            few-shot segmentation. They are never drawn.
        label_dir: Folder of the label maps below ``data_root``.
        queries_per_fold: Queries i = 0, 1, ... of each fold.
        **kwargs: ``codec``, ``size``, ``num_pairs``, ``seed``, ``num_queries`` of :class:`ProtocolDataset`.

    Raises:
        FileNotFoundError: A list is missing, or files that it names; the message says how many, and which.
        ValueError: An argument is out of range, a line is not as above, its class is not of the fold, or a class has
            fewer images than pairs are asked for.
    """

    METAINFO: dict = dict(task="seg", classes=PASCAL_CLASSES)

    def __init__(
        self,
        data_root: str | Path,
        lists: str | Path,
        folds: Sequence[int] = (0, 1, 2, 3),
        border: str = "background",
        label_dir: str = "SegmentationClassAug",
        queries_per_fold: int = 1000,
        **kwargs: Any,
    ) -> None:
        if border not in BORDERS:
            raise ValueError(f"border is {border!r}, expected {' or '.join(map(repr, BORDERS))}")
        self.data_root, self.lists, self.label_dir = Path(data_root), Path(lists), label_dir
        self.folds, self.border, self.queries_per_fold = check_folds(folds), border, queries_per_fold
        super().__init__(**kwargs)

    def draw_episodes(self) -> list[Episode]:
        """All episodes, fold by fold."""
        return [episode for fold in self.folds for episode in self._of_fold(fold)]

    def read(self, entry: dict) -> dict:
        """Image and mask of one class: 1 where it is, 0 elsewhere, 255 where the border is ignored."""
        image, labels = read_image(entry["img_path"]), read_label_map(entry["seg_map_path"])
        if labels.shape != image.shape[:2]:
            raise ValueError(
                f"{entry['seg_map_path']} is a label map of {labels.shape[1]}x{labels.shape[0]} pixels, its image "
                f"{entry['img_path']} has {image.shape[1]}x{image.shape[0]}: use both as they were published"
            )
        mask = (labels == entry["class_id"]).astype(np.uint8)
        if self.border == "ignored":
            mask[labels == IGNORED] = IGNORED
        return entry | dict(img=image, gt_seg_map=mask)

    def _of_fold(self, fold: int) -> list[Episode]:
        path = self.lists / f"fold{fold}.txt"
        entries = self._entries(path, fold)
        of_class: dict[int, list[int]] = {}
        for position, entry in enumerate(entries):
            of_class.setdefault(entry["class_id"], []).append(position)
        random = np.random.RandomState(self.seed)
        episodes = []
        for index in range(min(self.queries_per_fold, self.num_queries or self.queries_per_fold)):
            query = entries[index % len(entries)]
            positions = of_class[query["class_id"]]
            names = [entries[position]["img_id"] for position in positions]
            where = f"class {query['class_name']} of {path}"
            drawn = tuple(
                positions[number] for number in draw_others(random, names, query["img_id"], self.num_pairs, where)
            )
            episodes.append(Episode(query, tuple(entries[position] for position in drawn), drawn))
        return episodes

    def _entries(self, path: Path, fold: int) -> list[dict]:
        entries = [self._entry(line, fold, path) for line in read_lines(path, "an image and its class")]
        require_files([entry["img_path"] for entry in entries], path, "images")
        require_files([entry["seg_map_path"] for entry in entries], path, "label maps")
        return entries

    def _entry(self, line: str, fold: int, path: Path) -> dict:
        name, _, number = line.partition("__")
        if not name or not number.isdecimal() or not 1 <= int(number) <= len(PASCAL_CLASSES):
            raise ValueError(f"{path} has the line {line!r}, expected an image and its class, such as 2007_000033__01")
        class_id = int(number)
        of_fold = range(5 * fold + 1, 5 * fold + 6)
        if class_id not in of_fold:
            raise ValueError(
                f"{path} has the line {line!r}: class {class_id} is not of fold {fold}, which has {[*of_fold]}; give "
                "the validation lists, val/fold0.txt to val/fold3.txt"
            )
        return dict(
            img_path=str(self.data_root / "JPEGImages" / f"{name}.jpg"),
            seg_map_path=str(self.data_root / self.label_dir / f"{name}.png"),
            img_id=name,
            class_id=class_id,
            class_name=PASCAL_CLASSES[class_id - 1],
            fold=fold,
        )


@DATASETS.register_module()
class NearestPascalEpisodes(PascalEpisodes):
    """Queries of the published lists of Pascal-5i, each line once, with the nearest pairs of the training lists.

    As Zhang et al., "What Makes Good Examples for Visual In-Context Learning?", NeurIPS 2023, choose prompts, with
    the cosine of CLIP's vectors and no regard to the class; prompt-SelF (Sun et al., 2023) chooses within the class.
    The pairs of a query show different images, none its own, the most alike last. Images are compared as the model is
    shown them, squashed to ``size``.

    Args:
        data_root: ``VOCdevkit/VOC2012``.
        lists: Folder with ``fold0.txt`` to ``fold3.txt``, the validation lists.
        support_lists: The same of the training lists, whose vectors are computed first: up to 5883 images a fold.
        features: By what images are alike, an :class:`ImageFeatures` or its config; with ``cache`` the vectors are
            kept.
        same_class: Whether to choose among the pairs of the query's class alone.
        **kwargs: ``folds``, ``border``, ``label_dir`` of :class:`PascalEpisodes`; ``codec``, ``size``, ``num_pairs``,
            ``num_queries`` of :class:`ProtocolDataset`.

    Raises:
        FileNotFoundError: A list is missing, or files that it names; the message says how many, and which.
        ValueError: As of :class:`PascalEpisodes`, or there are fewer images to choose among than pairs are asked for.
    """

    def __init__(
        self,
        data_root: str | Path,
        lists: str | Path,
        support_lists: str | Path,
        features: dict | ImageFeatures,
        same_class: bool = False,
        **kwargs: Any,
    ) -> None:
        self.support_lists, self.same_class = Path(support_lists), same_class
        self.features = TASK_UTILS.build(features) if isinstance(features, dict) else features
        super().__init__(data_root, lists, **kwargs)

    @property
    def choice(self) -> dict[str, Any]:
        """How prompts are chosen, to be noted with results."""
        return super().choice | dict(features=type(self.features).__name__, same_class=self.same_class)

    def _of_fold(self, fold: int) -> list[Episode]:
        path = self.support_lists / f"fold{fold}.txt"
        supports, queries = self._entries(path, fold), self._entries(self.lists / f"fold{fold}.txt", fold)
        vectors = self.features.of(_Shown(supports, self.size, self.interpolation))
        shown = _Shown(queries, self.size, self.interpolation)
        episodes = []
        for index, query in enumerate(queries[: self.num_queries]):
            likeness = self.features.likeness(vectors, self.features.of_one(shown[index]))
            drawn: dict[str, int] = {}
            for position in np.argsort(-likeness, kind="stable").tolist():
                entry = supports[position]
                if entry["img_id"] != query["img_id"] and (
                    not self.same_class or entry["class_id"] == query["class_id"]
                ):
                    drawn.setdefault(entry["img_id"], position)
                if len(drawn) == self.num_pairs:
                    break
            if len(drawn) < self.num_pairs:
                of_class = f" of class {query['class_name']}" if self.same_class else ""
                raise ValueError(
                    f"{self.num_pairs} pairs are asked for, but {path} has {len(drawn)} images{of_class} besides "
                    f"{query['img_id']}: lower num_pairs, or give a longer list"
                )
            positions = tuple(reversed(drawn.values()))
            episodes.append(Episode(query, tuple(supports[position] for position in positions), positions))
        return episodes


class _Shown(Sequence):
    """The images of entries as a model is shown them, read when they are asked for."""

    def __init__(self, entries: Sequence[dict], size: int, interpolation: str) -> None:
        self.entries, self.size, self.interpolation = entries, size, interpolation

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> np.ndarray:
        return squash(read_image(self.entries[index]["img_path"]), self.size, self.interpolation)


def check_folds(folds: Sequence[int] | int) -> tuple[int, ...]:
    """Folds as a tuple; one may be given alone.

    Returns:
        At least one of 0 to 3, each once.

    Raises:
        ValueError: They are anything else.
    """
    given = (folds,) if isinstance(folds, int) else tuple(folds)
    if not given or len(set(given)) < len(given) or not set(given) <= set(range(NUM_FOLDS)):
        raise ValueError(f"folds are {folds!r}, expected some of 0, 1, 2 and 3, each once")
    return given
