"""Single-object detection on VOC 2012, as Bar et al. and InMeMo score it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.datasets.protocols.base import Episode, ProtocolDataset, read_lines, require_files
from delvm_mm.datasets.readers.io.image import read_image
from delvm_mm.datasets.readers.pascal5i import PASCAL_CLASSES
from delvm_mm.registry import DATASETS

__all__ = ["BoxEpisodes", "read_voc_boxes"]

PAIRINGS = ("class", "listed")


@DATASETS.register_module()
class BoxEpisodes(ProtocolDataset):
    """Images of VOC 2012 with one object, whose box fills less than a fifth; the label is the filled box.

    Queries are those of a list that have exactly one object (difficult ones count) whose box is smaller than
    ``max_area`` of the image, in the order of the list: Bar et al., "Visual Prompting via Image Inpainting", NeurIPS
    2022. Boxes are VOC's without their fractions, from ``xmin - 1`` to ``xmax``, and so are both areas.

    With ``pairing='class'`` supports are the images of their list of which the same is true, and those of the query's
    class are drawn as the code of Bar et al. draws: the whole list is shuffled for each query, and the first ones of
    the class are taken. That code then reads a support of each class from a file of its own, which is a pickle and is
    not read. With ``pairing='listed'`` the i-th line of ``supports`` belongs to the i-th query, as in InMeMo's
    ``support_set_for_val.txt``, whatever class it shows; that list is in the order of the queries which VOC's own
    ``val.txt`` gives, not in that of ``val_detection.txt``.

    Args:
        data_root: ``VOCdevkit/VOC2012``, with ``Annotations`` and ``JPEGImages``.
        queries: List of images; by default ``ImageSets/Main/val.txt``. What follows ``__`` in a line is not read.
        supports: The same of supports; by default ``ImageSets/Main/train.txt``.
        pairing: 'class' or 'listed'.
        max_area: Part of the image that a box has to be below, in (0, 1].
        **kwargs: ``codec``, ``size``, ``num_pairs``, ``seed``, ``num_queries`` of :class:`ProtocolDataset`.

    Raises:
        FileNotFoundError: A list is missing, or files that it names; the message says how many, and which.
        ValueError: An argument is out of range, a file is no annotation of VOC's, no image is left, a class has fewer
            supports than pairs are asked for, or, with 'listed', there are not as many supports as queries.
    """

    METAINFO: dict = dict(task="boxes", classes=PASCAL_CLASSES)

    def __init__(
        self,
        data_root: str | Path,
        queries: str | Path | None = None,
        supports: str | Path | None = None,
        pairing: str = "class",
        max_area: float = 0.2,
        **kwargs: Any,
    ) -> None:
        if pairing not in PAIRINGS:
            raise ValueError(f"pairing is {pairing!r}, expected {' or '.join(map(repr, PAIRINGS))}")
        if not 0 < max_area <= 1:
            raise ValueError(f"max_area is {max_area!r}, expected a part of the image in (0, 1]")
        self.data_root, self.pairing, self.max_area = Path(data_root), pairing, max_area
        self.queries = Path(queries or self.data_root / "ImageSets/Main/val.txt")
        self.supports = Path(supports or self.data_root / "ImageSets/Main/train.txt")
        super().__init__(**kwargs)

    def draw_episodes(self) -> list[Episode]:
        """All episodes, in the order of the queries."""
        queries = self._with_one_small_box(self.queries)
        if self.pairing == "listed":
            return self._listed(queries)[: self.num_queries]
        supports = self._with_one_small_box(self.supports)
        random = np.random.RandomState(self.seed)
        episodes = []
        for query in queries[: self.num_queries]:
            class_id = random.choice([query["class_id"]])  # of the query's objects: the public code draws here
            order = np.arange(len(supports))
            random.shuffle(order)
            of_class = [
                int(position)
                for position in order
                if supports[position]["class_id"] == class_id and supports[position]["img_id"] != query["img_id"]
            ]
            if len(of_class) < self.num_pairs:
                raise ValueError(
                    f"{self.num_pairs} pairs are asked for, but {self.supports} has {len(of_class)} images of class "
                    f"{query['class_name']} with one object below {self.max_area:g} of the image: lower num_pairs, or "
                    "give a longer list"
                )
            drawn = tuple(of_class[: self.num_pairs])
            episodes.append(Episode(query, tuple(supports[position] for position in drawn), drawn))
        return episodes

    def read(self, entry: dict) -> dict:
        """Image and boxes."""
        image = read_image(entry["img_path"])
        if image.shape[:2] != entry["listed_shape"]:
            height, width = entry["listed_shape"]
            raise ValueError(
                f"{entry['img_path']} has {image.shape[1]}x{image.shape[0]} pixels, where its annotation says "
                f"{width}x{height}: use both as they were published"
            )
        return entry | dict(img=image, bbox=np.array(entry["boxes"], np.float32))

    def _listed(self, queries: list[dict]) -> list[Episode]:
        if self.num_pairs != 1:
            raise ValueError(f"pairing='listed' has one pair for each query, num_pairs is {self.num_pairs}")
        supports = self._entries(self.supports)
        if len(supports) != len(queries):
            raise ValueError(
                f"{self.supports} names {len(supports)} supports, but {self.queries} has {len(queries)} images with "
                f"one object below {self.max_area:g} of the image: expected one for each; give the list of queries "
                "that the supports were made for"
            )
        return [
            Episode(query, (support,), (position,))
            for position, (query, support) in enumerate(zip(queries, supports, strict=True))
        ]

    def _with_one_small_box(self, path: Path) -> list[dict]:
        entries = [
            entry
            for entry in self._entries(path)
            if entry["num_objects"] == 1 and entry["area"] < self.max_area * np.prod(entry["listed_shape"])
        ]
        if not entries:
            raise ValueError(f"{path} names no image with exactly one object below {self.max_area:g} of the image")
        return entries

    def _entries(self, path: Path) -> list[dict]:
        """All images of a list, with the boxes of the class that they show first."""
        names = [line.partition("__")[0] for line in read_lines(path, "the name of an image")]
        images = {name: self.data_root / "JPEGImages" / f"{name}.jpg" for name in names}
        annotations = {name: self.data_root / "Annotations" / f"{name}.xml" for name in names}
        require_files([*images.values()], path, "images")
        require_files([*annotations.values()], path, "annotations")
        entries = {}
        for name in images:
            classes, boxes, shape = read_voc_boxes(annotations[name])
            first = classes[0]
            (x1, y1, x2, y2) = boxes[0]
            entries[name] = dict(
                img_path=str(images[name]),
                img_id=name,
                class_id=first,
                class_name=PASCAL_CLASSES[first - 1],
                boxes=[np.trunc(box).tolist() for box, number in zip(boxes, classes, strict=True) if number == first],
                area=(x2 - x1) * (y2 - y1),
                num_objects=len(boxes),
                listed_shape=shape,
            )
        return [entries[name] for name in names]


def read_voc_boxes(path: str | Path) -> tuple[list[int], list[tuple[float, ...]], tuple[int, int]]:
    """Objects of an annotation of VOC's.

    Args:
        path: ``Annotations/2008_000002.xml``.

    Returns:
        Classes (1 to 20) and boxes (x1, y1, x2, y2 in pixels from the edges of the image) of at least one object;
        height and width of the image.

    Raises:
        ValueError: It is no such file.
    """
    try:
        root = ElementTree.parse(path).getroot()
        shape = int(root.findtext("size/height", "")), int(root.findtext("size/width", ""))
        classes = [PASCAL_CLASSES.index(each.findtext("name", "").strip()) + 1 for each in root.iter("object")]
        boxes = []
        for each in root.iter("object"):
            x1, y1, x2, y2 = (float(each.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
            # Counted from 1, both ends included.
            boxes.append((x1 - 1, y1 - 1, x2, y2))
        if not boxes or not all(0 <= x1 < x2 and 0 <= y1 < y2 for x1, y1, x2, y2 in boxes):
            raise ValueError(f"boxes are {boxes}")
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(
            f"{path} is no annotation of VOC 2012 ({error}): expected <size> and at least one <object> with a <name> "
            "of VOC's and a <bndbox>"
        ) from error
    return classes, boxes, shape
