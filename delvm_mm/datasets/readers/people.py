"""What every reader of annotated people checks and hands out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.codecs.skeletons.openpose import NUM_KEYPOINTS
from delvm_mm.datasets.readers.base import ReaderDataset
from delvm_mm.datasets.readers.io.image import image_size

__all__ = ["AREA_OF_BOX", "PeopleReader", "num_labeled", "numbers"]

MAX_OUTSIDE = 0.1
"""A labeled keypoint may lie this part of the image's longer side outside; annotators click beside the border."""

AREA_OF_BOX = 0.53
"""Of a person's outline, where only the box is known; as mmpose."""


NOBODY = {
    "keypoints": np.zeros((0, NUM_KEYPOINTS, 2), np.float32),
    "keypoints_visible": np.zeros((0, NUM_KEYPOINTS), np.float32),
    "bbox": np.zeros((0, 4), np.float32),
    "area": np.zeros(0, np.float32),
}
"""Fields of an image without people."""


class PeopleReader(ReaderDataset):
    """Base of readers of people with keypoints; a sample is an image with all its people, or one person of it.

    Entries of ``load_data_list`` come from :meth:`entries_of`; subclasses turn one person as it stands in the
    annotation file into arrays in :meth:`read_person`.

    Args:
        data_root: Folder of the data set, as published.
        ann_file: The annotation file, from ``data_root`` on.
        img_dir: Folder of the images, from ``data_root`` on.
        per_person: Whether each person is a sample of its own.
        min_keypoints: People with fewer labeled keypoints are left out.
        **kwargs: ``pipeline``, ``indices``, ``num_views``, ``metainfo`` of :class:`ReaderDataset`.
    """

    METAINFO: dict = dict(task="pose")

    def __init__(
        self,
        data_root: str | Path,
        ann_file: str,
        img_dir: str,
        per_person: bool,
        min_keypoints: int = 1,
        **kwargs: Any,
    ) -> None:
        if min_keypoints < 1:
            raise ValueError(f"min_keypoints must be at least 1, got {min_keypoints}")
        self.img_dir = os.path.join(data_root, img_dir)
        self.per_person = per_person
        self.min_keypoints = min_keypoints
        super().__init__(data_root, ann_file=ann_file, **kwargs)

    def entries_of(self, image: dict, people: list[dict]) -> list[dict]:
        """Samples of one image: one, or one for each of its people.

        Args:
            image: ``img_path``, ``img_id``, and what :meth:`read_person` wants to know of the image.
            people: Its people, as they stand in the annotation file, each with its ``id``.

        Returns:
            Entries of the data list; none of an image without people.
        """
        if self.per_person:
            return [image | {"people": [person]} for person in people]
        return [image | {"people": people}] if people else []

    def read_person(self, person: dict, entry: dict, where: str) -> dict[str, Any]:
        """Arrays of one person, all finite.

        Args:
            person: As it stands in the annotation file.
            entry: What :meth:`entries_of` was given as ``image``, with ``size`` (W, H) of the image, or None.
            where: Annotation file and number of the annotation, to begin messages with.

        Returns:
            ``keypoints`` (17 x 2), ``labeled`` (17, bool), ``bbox`` (4, xyxy), ``area`` and what else there is.

        Raises:
            ValueError: The annotation is damaged.
        """
        raise NotImplementedError

    def read_sample(self, entry: dict) -> dict:
        """Results dict of an image and its people.

        Returns:
            See the class.

        Raises:
            ValueError: An annotation is damaged, or a labeled keypoint lies far outside the image.
        """
        entry = {**entry, "size": image_size(entry["img_path"])}
        people = []
        for person in entry["people"]:
            where = f"{self.ann_file}: annotation {person['id']!r}"
            read = self.read_person(person, entry, where)
            read["keypoints_visible"] = _visible(read["keypoints"], read.pop("labeled"), entry, where)
            people.append(read)
        fields = (
            {key: np.array([person[key] for person in people], np.float32) for key in people[0]} if people else NOBODY
        )
        ids = [person["id"] for person in entry["people"]]
        return {
            "img_path": entry["img_path"],
            "img_id": entry["img_id"],
            "id": ids[0] if self.per_person else ids,
            **fields,
        }


def numbers(values: Any, count: int, what: str) -> np.ndarray:
    """Finite numbers out of an annotation file.

    Args:
        values: A list of ``count`` numbers, or of lists that hold as many.
        count: How many are expected.
        what: Begins the message.

    Returns:
        float64 array of ``count``.

    Raises:
        ValueError: They are anything else.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.empty(0)
    if not isinstance(values, Sequence) or array.dtype.kind not in "iuf" or array.size != count:
        raise ValueError(f"{what}: got {_short(values)}, expected {count} numbers")
    array = array.astype(np.float64).reshape(-1)
    if not np.isfinite(array).all():
        raise ValueError(f"{what}: got {_short(values)}, expected finite numbers")
    return array


def num_labeled(visibilities: Any, count: int, which: Sequence[int]) -> float:
    """Number of labeled keypoints, of those that are asked for.

    Args:
        visibilities: As they stand in the annotation file, above 0 for a labeled keypoint.
        count: How many the file should have.
        which: Positions of those that count.

    Returns:
        The number; infinite where it cannot be told, so that the person is read, and what is wrong is named.
    """
    try:
        return sum(visibilities[one] > 0 for one in which) if len(visibilities) == count else np.inf
    except TypeError:
        return np.inf


def _visible(keypoints: np.ndarray, labeled: np.ndarray, entry: dict, where: str) -> np.ndarray:
    """Which keypoints are labeled and in the image."""
    if entry["size"] is None:
        return labeled
    size = np.array(entry["size"])
    # Pixel 0 reaches from -0.5 to 0.5.
    outside = np.maximum(-0.5 - keypoints, keypoints - (size - 0.5)).max(-1)
    far = labeled & (outside > MAX_OUTSIDE * size.max())
    if far.any():
        number = int(np.argmax(far))
        raise ValueError(
            f"{where}: labeled keypoint {number} lies at {keypoints[number].round(1).tolist()}, outside of "
            f"{entry['img_path']} ({size[0]}x{size[1]}) by more than {MAX_OUTSIDE:.0%} of its longer side: "
            "annotation and image do not belong together, or the annotation is damaged"
        )
    return labeled & ((keypoints >= -0.5) & (keypoints < size - 0.5)).all(-1)


def _short(values: Any) -> str:
    text = repr(values)
    return text if len(text) <= 80 else f"{text[:80]}... ({len(values)} values)"
