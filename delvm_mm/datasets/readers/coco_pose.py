"""COCO keypoints: images with people."""

import contextlib
import io
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.logging import print_log

from delvm_mm.codecs.skeletons.openpose import COCO_KEYPOINTS, NUM_KEYPOINTS, coco_order, is_person
from delvm_mm.datasets.readers.base import refuse_twice, require_folder
from delvm_mm.datasets.readers.io.image import turned_by_exif
from delvm_mm.datasets.readers.people import AREA_OF_BOX, PeopleReader, num_labeled, numbers
from delvm_mm.registry import DATASETS

if TYPE_CHECKING:
    from pycocotools.coco import COCO

__all__ = ["CocoPoseDataset"]

IN_COCOS_ORDER = NUM_KEYPOINTS, np.arange(NUM_KEYPOINTS)


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

    ``categories`` say what is annotated. Keypoints are ordered by the names that stand there, those that COCO does not
    have are left out, those that it alone has are not visible. What is no person (by ``name`` or ``supercategory``) is
    left out, with a warning where it has keypoints; a file of animals alone, such as AP-10K's, is refused. A file
    without ``categories`` is taken for people in COCO's order.

    Results dicts have ``img_path``, ``img_id``; ``keypoints`` (float32 N x 17 x 2), ``keypoints_visible`` (float32 N x
    17, 0 or 1), ``bbox`` (float32 N x 4, xyxy), ``area`` (float32 N: of the outline, in pixels; 0.53 of the box where
    the file gives none, as in mmpose) and ``id``: the annotation's, or a list of them; with ``ignored``, also
    ``ignored_bbox`` (float32 M x 4, xyxy), ``ignored_area`` (float32 M) and ``ignored_crowd`` (bool M).

    What is wrong with one annotation is a ``ValueError`` when its sample is read, naming file and annotation: an
    image that is not listed or has another size than the file says, a category that is not listed, keypoints that are
    not as many triples as named, numbers that are not finite, an empty box, a labeled keypoint that lies outside the
    image by more than a tenth of its longer side. One that lies outside by less is not visible.

    Args:
        data_root: Folder of the data set, as published.
        ann_file: The annotation file, from ``data_root`` on.
        img_dir: Folder of the images, from ``data_root`` on.
        per_person: Whether each person is a sample of its own, for ``CropPerson``; else a sample is an image.
        min_keypoints: People with fewer labeled keypoints are left out; at least 1.
        ignored: For scores as COCO's: also hand out the people where COCO's evaluation counts no answer as wrong,
            crowds and those without a labeled keypoint (or with fewer than ``min_keypoints``), each with the first
            sample of its image; and, where a sample is an image, the images without people, where each answer is wrong.
        **kwargs: ``pipeline``, ``indices``, ``num_views``, ``metainfo`` of :class:`ReaderDataset`.

    Raises:
        FileNotFoundError: The annotation file or the folder of images is missing.
        ValueError: The annotation file is no COCO keypoint file, has an id twice, names no keypoints of people, or
            nobody in it has enough keypoints.
    """

    METAINFO: dict = dict(task="pose", dataset_name="coco")

    def __init__(
        self,
        data_root: str | Path,
        ann_file: str = "annotations/person_keypoints_train2017.json",
        img_dir: str = "train2017",
        per_person: bool = False,
        min_keypoints: int = 1,
        ignored: bool = False,
        **kwargs: Any,
    ) -> None:
        self.ignored = ignored
        super().__init__(data_root, ann_file, img_dir, per_person, min_keypoints, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Entries of all images with people, in the order of the annotation file."""
        coco = self._open()
        folder = require_folder(self.img_dir, "the images of COCO")
        entries = []
        # Annotations of images that are not listed become samples too: errors when they are read.
        for img_id in [*coco.imgs, *(img_id for img_id in coco.imgToAnns if img_id not in coco.imgs)]:
            people = [
                {key: person.get(key) for key in ("id", "keypoints", "bbox", "area", "category_id")}
                for person in coco.imgToAnns.get(img_id, ())
                if self._is_wanted(person)
            ]
            listed = coco.imgs.get(img_id, {})
            name = listed.get("file_name")
            image = {
                "img_path": str(folder / name) if isinstance(name, str) else "",
                "img_id": img_id,
                "listed_size": (listed.get("width"), listed.get("height")),
            }
            of_image = self.entries_of(image, people)
            if self.ignored:
                if not (people or self.per_person):
                    of_image = [image | {"people": []}]
                others = [person for person in coco.imgToAnns.get(img_id, ()) if not self._is_wanted(person)]
                others = [
                    {key: person.get(key) for key in ("id", "bbox", "area", "iscrowd")}
                    for person in others
                    if self._categories.get(person.get("category_id"), ()) is not None
                ]
                of_image = [entry | {"ignored": [] if number else others} for number, entry in enumerate(of_image)]
            entries += of_image
        if not any(entry["people"] for entry in entries):
            raise ValueError(
                f"{self.ann_file} has no person with {self.min_keypoints} labeled keypoints or more: "
                "expected a person_keypoints_*.json of COCO; or lower min_keypoints"
            )
        return entries

    def read_sample(self, entry: dict) -> dict:
        """Results dict of an image and its people; see the class."""
        sample = super().read_sample(entry)
        if self.ignored:
            where = [f"{self.ann_file}: annotation {other['id']!r}" for other in entry["ignored"]]
            boxes = [
                numbers(other["bbox"], 4, f"{of}: bbox") for of, other in zip(where, entry["ignored"], strict=True)
            ]
            areas = [
                width * height if other["area"] is None else other["area"]
                for (_, _, width, height), other in zip(boxes, entry["ignored"], strict=True)
            ]
            corners = np.array(boxes, np.float32).reshape(-1, 4)
            sample["ignored_bbox"] = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1)
            sample["ignored_area"] = np.array(areas, np.float32)
            sample["ignored_crowd"] = np.array([bool(other["iscrowd"]) for other in entry["ignored"]])
        return sample

    def read_person(self, person: dict, entry: dict, where: str) -> dict[str, Any]:
        """Arrays of one COCO annotation; see :class:`PeopleReader`."""
        if not entry["img_path"]:
            raise ValueError(
                f"{where} is of image {entry['img_id']!r}, for which 'images' has no entry with a file_name"
            )
        listed = entry["listed_size"]
        if any(isinstance(side, str) for side in listed):
            raise ValueError(
                f"{where} is of {entry['img_path']}, of which 'images' gives width {listed[0]!r} and height "
                f"{listed[1]!r} as text: expected whole numbers, without quotation marks"
            )
        if entry["size"] is not None and None not in listed and entry["size"] != listed:
            cause = turned_by_exif(entry["img_path"], listed) or ": use the images as they were published"
            raise ValueError(
                f"{where} is of {entry['img_path']}, which has {entry['size'][0]}x{entry['size'][1]} pixels, where "
                f"'images' says {listed[0]}x{listed[1]}{cause}"
            )
        if self._categories and person["category_id"] not in self._categories:
            raise ValueError(
                f"{where} is of category {person['category_id']!r}, expected one of 'categories', {[*self._categories]}"
            )
        names, order = self._keypoints_of(person)
        keypoints = numbers(person["keypoints"], 3 * names, f"{where}: keypoints").reshape(-1, 3)
        if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
            raise ValueError(f"{where}: visibilities of keypoints are {keypoints[:, 2].tolist()}, expected 0, 1 or 2")
        keypoints = np.where(order[:, None] < 0, 0, keypoints[order])
        x, y, width, height = numbers(person["bbox"], 4, f"{where}: bbox")
        if width <= 0 or height <= 0:
            raise ValueError(f"{where}: bbox is {person['bbox']} (x, y, width, height), expected a size above 0")
        area = (
            AREA_OF_BOX * width * height
            if person["area"] is None
            else numbers([person["area"]], 1, f"{where}: area")[0]
        )
        return {
            "keypoints": np.where(keypoints[:, 2:] > 0, keypoints[:, :2], 0),
            "labeled": keypoints[:, 2] > 0,
            "bbox": np.array([x, y, x + width, y + height]),
            "area": area,
        }

    def _open(self) -> "COCO":
        from pycocotools.coco import COCO  # takes a moment, and only files of COCO's form need it

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
        for key in ("images", "annotations", "categories"):
            refuse_twice((entry["id"] for entry in coco.dataset.get(key, ())), f"{self.ann_file}: {key} have ids, and")
        if coco.anns and not any("keypoints" in person for person in coco.anns.values()):
            raise ValueError(f"{self.ann_file} has no keypoints: expected a person_keypoints_*.json of COCO")
        self._categories = self._read_categories(coco)
        return coco

    def _read_categories(self, coco: "COCO") -> dict[Any, tuple[int, np.ndarray] | None]:
        """Number of keypoints of each category, and of COCO's keypoints which they are; None for what is no person."""
        read: dict[Any, tuple[int, np.ndarray] | None] = {}
        for number, category in coco.cats.items():
            names = category.get("keypoints")
            if not is_person(category):
                read[number] = None
            elif not names:
                read[number] = IN_COCOS_ORDER
            else:
                try:
                    read[number] = len(names), coco_order(names)
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{self.ann_file}: category {number!r}: {error}") from error
                if (read[number][1] < 0).all():
                    raise ValueError(
                        f"{self.ann_file}: category {number!r} names none of COCO's keypoints, "
                        f"{', '.join(COCO_KEYPOINTS)}: its 'keypoints' are {', '.join(map(str, names))}; rename those "
                        "that are meant"
                    )
        annotated = Counter(person["category_id"] for person in coco.anns.values() if person.get("keypoints") and read)
        others = {number: count for number, count in annotated.items() if read.get(number, ()) is None}
        if others:
            named = [f"{number!r} ({coco.cats[number].get('name')})" for number in others]
            named = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
            if others == annotated:
                raise ValueError(
                    f"{self.ann_file} has keypoints of {named} alone, which are not people: this reader and "
                    "the codec of skeletons are for people; if these are, name the category 'person' in 'categories'"
                )
            left_out = f"{sum(others.values())} annotations with keypoints are left out, as they are not of people"
            print_log(f"{self.ann_file}: {left_out}: categories {named}", "current", logging.WARNING)
        return read

    def _keypoints_of(self, person: dict) -> tuple[int, np.ndarray]:
        return self._categories.get(person.get("category_id")) or IN_COCOS_ORDER

    def _is_wanted(self, person: dict) -> bool:
        if person.get("iscrowd") or self._categories.get(person.get("category_id"), ()) is None:
            return False
        names, order = self._keypoints_of(person)
        keypoints = person.get("keypoints")
        whole = hasattr(keypoints, "__len__") and len(keypoints) == 3 * names
        return num_labeled(keypoints[2::3] if whole else (), names, order[order >= 0]) >= self.min_keypoints
