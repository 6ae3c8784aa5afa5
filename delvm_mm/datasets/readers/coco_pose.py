"""COCO keypoints: images with people, and what every reader of annotated people checks and hands out."""

import contextlib
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from delvm_mm.codecs.openpose import NUM_KEYPOINTS
from delvm_mm.datasets.readers.base import ReaderDataset, require_folder
from delvm_mm.registry import DATASETS

__all__ = ["CocoPoseDataset", "PeopleReader", "image_size"]

MAX_OUTSIDE = 0.1
"""A labeled keypoint may lie this part of the image's longer side outside; annotators click beside the border."""

EXIF_ORIENTATION = 0x0112


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
        fields = {key: np.array([person[key] for person in people], np.float32) for key in people[0]}
        ids = [person["id"] for person in entry["people"]]
        return {
            "img_path": entry["img_path"],
            "img_id": entry["img_id"],
            "id": ids[0] if self.per_person else ids,
            **fields,
        }


@DATASETS.register_module()
class CocoPoseDataset(PeopleReader):
    """People with keypoints in the format of COCO, read by pycocotools.

    The layout, as from https://cocodataset.org/#download (format: https://cocodataset.org/#format-data)::

        data_root                                  # train2017.zip, annotations_trainval2017.zip
        ├── annotations
        │   ├── person_keypoints_train2017.json    # 149 813 people with keypoints
        │   └── person_keypoints_val2017.json      # 6 352
        ├── train2017
        │   └── 000000000036.jpg ...
        └── val2017

    A keypoint that COCO labels (v = 1, hidden, or v = 2, seen) is visible (1) here, any other is not (0) and lies at
    (0, 0). COCO's whole numbers are pixels counted from 0, which makes them the pixel centers that they are here:
    keypoints are taken as they are. Boxes are x, y, width and height from the edges of the image. Crowds
    (``iscrowd``) are left out, and so are images without people who have enough keypoints.

    Results dicts have ``img_path``, ``img_id``; ``keypoints`` (float32 N x 17 x 2), ``keypoints_visible`` (float32 N x
    17, 0 or 1), ``bbox`` (float32 N x 4, xyxy), ``area`` (float32 N: of the outline, in pixels; 0.53 of the box where
    the file gives none, as in mmpose) and ``id``: the annotation's, or a list of them.

    What is wrong with one annotation is a ``ValueError`` when its sample is read, naming file and annotation: an
    image that is not listed or has another size than the file says, keypoints that are not 17 triples, numbers that
    are not finite, an empty box, a labeled keypoint that lies outside the image by more than a tenth of its longer
    side. One that lies outside by less is not visible.

    Args:
        data_root: Folder of the data set, as published.
        ann_file: The annotation file, from ``data_root`` on.
        img_dir: Folder of the images, from ``data_root`` on.
        per_person: Whether each person is a sample of its own, for ``CropPerson``; else a sample is an image.
        min_keypoints: People with fewer labeled keypoints are left out; at least 1.
        **kwargs: ``pipeline``, ``indices``, ``num_views``, ``metainfo`` of :class:`ReaderDataset`.

    Raises:
        FileNotFoundError: The annotation file or the folder of images is missing.
        ValueError: The annotation file is no COCO keypoint file, or nobody in it has enough keypoints.
    """

    METAINFO: dict = dict(task="pose", dataset_name="coco")

    def __init__(
        self,
        data_root: str | Path,
        ann_file: str = "annotations/person_keypoints_train2017.json",
        img_dir: str = "train2017",
        per_person: bool = False,
        min_keypoints: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_root, ann_file, img_dir, per_person, min_keypoints, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Entries of all images with people, in the order of the annotation file."""
        coco = self._open()
        folder = require_folder(self.img_dir, "the images of COCO")
        entries = []
        # Annotations of images that are not listed become samples too: errors when they are read.
        for img_id in [*coco.imgs, *(img_id for img_id in coco.imgToAnns if img_id not in coco.imgs)]:
            people = [
                {key: person.get(key) for key in ("id", "keypoints", "bbox", "area")}
                for person in coco.imgToAnns.get(img_id, ())
                if not person.get("iscrowd") and _num_labeled(person.get("keypoints")) >= self.min_keypoints
            ]
            listed = coco.imgs.get(img_id, {})
            name = listed.get("file_name")
            image = {
                "img_path": str(folder / name) if isinstance(name, str) else "",
                "img_id": img_id,
                "listed_size": (listed.get("width"), listed.get("height")),
            }
            entries += self.entries_of(image, people)
        if not entries:
            raise ValueError(
                f"{self.ann_file} has no person with {self.min_keypoints} labeled keypoints or more: "
                "expected a person_keypoints_*.json of COCO; or lower min_keypoints"
            )
        return entries

    def read_person(self, person: dict, entry: dict, where: str) -> dict[str, Any]:
        """Arrays of one COCO annotation; see :class:`PeopleReader`."""
        if not entry["img_path"]:
            raise ValueError(
                f"{where} is of image {entry['img_id']!r}, for which 'images' has no entry with a file_name"
            )
        listed = entry["listed_size"]
        if entry["size"] is not None and None not in listed and entry["size"] != listed:
            raise ValueError(
                f"{where} is of {entry['img_path']}, which has {entry['size'][0]}x{entry['size'][1]} pixels, where "
                f"'images' says {listed[0]}x{listed[1]}: use the images as they were published"
            )
        keypoints = numbers(person["keypoints"], 3 * NUM_KEYPOINTS, f"{where}: keypoints").reshape(-1, 3)
        if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
            raise ValueError(f"{where}: visibilities of keypoints are {keypoints[:, 2].tolist()}, expected 0, 1 or 2")
        x, y, width, height = numbers(person["bbox"], 4, f"{where}: bbox")
        if width <= 0 or height <= 0:
            raise ValueError(f"{where}: bbox is {person['bbox']} (x, y, width, height), expected a size above 0")
        area = 0.53 * width * height if person["area"] is None else numbers([person["area"]], 1, f"{where}: area")[0]
        return {
            "keypoints": np.where(keypoints[:, 2:] > 0, keypoints[:, :2], 0),
            "labeled": keypoints[:, 2] > 0,
            "bbox": np.array([x, y, x + width, y + height]),
            "area": area,
        }

    def _open(self) -> COCO:
        coco = COCO()
        coco.dataset = self.read_json(self.ann_file)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
                coco.createIndex()
            entries = [*coco.anns.values(), *coco.imgs.values()]
            if not coco.imgs or not all(isinstance(entry, dict) for entry in entries):
                raise KeyError("images")
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.ann_file} is no COCO annotation file ({type(error).__name__}: {error}): expected lists "
                "'images' and 'annotations' of entries with 'id' and 'image_id'"
            ) from error
        if coco.anns and not any("keypoints" in person for person in coco.anns.values()):
            raise ValueError(f"{self.ann_file} has no keypoints: expected a person_keypoints_*.json of COCO")
        return coco


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


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height of an image as ``read_image`` gives it, by its header alone.

    Returns:
        (W, H) in pixels with the EXIF orientation applied; None where the header cannot be read: reading the image
        says why.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                turned = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:  # a damaged file may raise anything; this is not the place to name it
        return None
    return (height, width) if turned else (width, height)


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


def _num_labeled(keypoints: Any) -> float:
    """Number of labeled keypoints; infinite where it cannot be told, so that the person is read, and named."""
    try:
        return sum(visibility > 0 for visibility in keypoints[2::3]) if len(keypoints) == 51 else np.inf
    except TypeError:
        return np.inf


def _short(values: Any) -> str:
    text = repr(values)
    return text if len(text) <= 80 else f"{text[:80]}... ({len(values)} values)"
