"""MPII Human Pose, in the JSON form that mmpose and HRNet use."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.codecs import mpii_to_coco
from delvm_mm.codecs.skeletons.openpose import MPII_KEYPOINTS
from delvm_mm.datasets.readers.base import refuse_twice, require_folder
from delvm_mm.datasets.readers.people import AREA_OF_BOX, PeopleReader, num_labeled, numbers
from delvm_mm.registry import DATASETS

__all__ = ["MpiiDataset"]

PIXELS_PER_SCALE = 200  # MPII's "scale" is the person's height in units of 200 pixels
HEAD_SIZE_OF_DIAGONAL = 0.6  # SC_BIAS of the official evaluation: makes PCKh correspond to the head segment's length
BODY = [number for number, name in enumerate(MPII_KEYPOINTS) if name]


@DATASETS.register_module()
class MpiiDataset(PeopleReader):
    """People of MPII Human Pose, with the 12 of their keypoints that COCO has too.

    The layout: images from http://human-pose.mpi-inf.mpg.de, annotations as mmpose distributes them::

        data_root                        # mpii_human_pose_v1.tar.gz
        ├── annotations                  # https://download.openmmlab.com/mmpose/datasets/mpii_annotations.tar
        │   ├── mpii_train.json          # 22 246 people
        │   ├── mpii_val.json            # 2 958 people
        │   └── mpii_gt_val.mat          # their head boxes
        └── images
            └── 000001163.jpg ...

    The JSON file is a list of people: ``joints`` (16 of x, y), ``joints_vis`` (16 of 0 and 1), ``image``, ``center``
    and ``scale``. Its positions count pixels from 1, as Matlab does; 1 is taken off keypoints and center, so that
    pixel centers are whole numbers from 0. (mmpose 1.x takes it off the center alone, HRNet off both.) As there, the
    box is a square of ``scale`` x 200 pixels whose center is moved down by 15 x ``scale``, and ``area`` is 0.53 of it.

    Results dicts have ``img_path``, ``img_id``; ``keypoints`` (float32 N x 17 x 2, COCO's order; the face is not
    visible), ``keypoints_visible`` (float32 N x 17, 0 or 1), ``bbox`` (float32 N x 4, xyxy), ``area`` (float32 N),
    ``head_size`` (float32 N, pixels: 0.6 of the diagonal of the head box; only with ``head_boxes``) and ``id``: the
    person's number in the file, or a list of them.

    Damage to one person is a ``ValueError`` when its sample is read, and so is a person that the file lists
    again; keypoints outside the image are treated as by :class:`CocoPoseDataset`. People without a position (``center``
    of -1, -1) are left out.

    Args:
        data_root: Folder of the data set, as above.
        ann_file: The annotation file, from ``data_root`` on.
        img_dir: Folder of the images, from ``data_root`` on.
        head_boxes: ``mpii_gt_val.mat``, from ``data_root`` on, which belongs to ``mpii_val.json``; for PCKh.
        per_person: Whether each person is a sample of its own; else a sample is an image with all its people.
        min_keypoints: People with fewer labeled keypoints, of those 12, are left out; at least 1.
        **kwargs: ``pipeline``, ``indices``, ``num_views``, ``metainfo`` of :class:`ReaderDataset`.

    Raises:
        FileNotFoundError: A file or the folder of images is missing.
        ValueError: A file is damaged, has no keypoints, two images with one number, or head boxes of other people.
    """

    METAINFO: dict = dict(task="pose", dataset_name="mpii")

    def __init__(
        self,
        data_root: str | Path,
        ann_file: str = "annotations/mpii_train.json",
        img_dir: str = "images",
        head_boxes: str | None = None,
        per_person: bool = True,
        min_keypoints: int = 1,
        **kwargs: Any,
    ) -> None:
        self.head_boxes = None if head_boxes is None else os.path.join(data_root, head_boxes)
        super().__init__(data_root, ann_file, img_dir, per_person, min_keypoints, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Entries of all people with a position, in the order of the annotation file."""
        people = self.read_json(self.ann_file)
        if not isinstance(people, list) or not any(
            isinstance(person, dict) and "joints" in person for person in people
        ):
            raise ValueError(
                f"{self.ann_file} is no list of people with 'joints': expected mpii_train.json or mpii_val.json of "
                "mmpose (the test set has no keypoints)"
            )
        folder = require_folder(self.img_dir, "the images of MPII")
        head_sizes = [None] * len(people) if self.head_boxes is None else self._head_sizes(len(people))
        samples: dict[tuple, list[dict]] = {}
        first: dict[str, int] = {}
        for number, (person, head_size) in enumerate(zip(people, head_sizes, strict=True)):
            person = person if isinstance(person, dict) else {}
            labeled = num_labeled(person.get("joints_vis"), len(MPII_KEYPOINTS), BODY)
            if person.get("center") == [-1, -1] or labeled < self.min_keypoints:
                continue
            name = person.get("image")
            name = name if isinstance(name, str) else ""
            kept = {key: person.get(key) for key in ("joints", "joints_vis", "center", "scale")}
            same = first.setdefault(repr((name, kept)), number)
            sample = (name, number if self.per_person else None)
            samples.setdefault(sample, []).append({"id": number, "same": same, "head_size": head_size, **kept})
        names = {name: _img_id(name) for name, _ in samples if name}
        refuse_twice(names.values(), f"{self.ann_file}: image ids are the numbers of their files, and")
        entries = []
        for (name, _), of_image in samples.items():
            image = {"img_path": str(folder / name) if name else "", "img_id": names.get(name, "")}
            entries += self.entries_of(image, of_image)
        if not entries:
            raise ValueError(f"{self.ann_file} has no person with {self.min_keypoints} labeled keypoints or more")
        return entries

    def read_person(self, person: dict, entry: dict, where: str) -> dict[str, Any]:
        """Arrays of one person; see :class:`PeopleReader`."""
        if not entry["img_path"]:
            raise ValueError(f"{where} has no 'image', expected the name of its image")
        if person["same"] != person["id"]:
            raise ValueError(f"{where} is person {person['same']} again: image, joints, center and scale are the same")
        joints = numbers(person["joints"], 32, f"{where}: joints").reshape(16, 2) - 1
        labeled = numbers(person["joints_vis"], 16, f"{where}: joints_vis") > 0
        center = numbers(person["center"], 2, f"{where}: center")
        scale = numbers([person["scale"]], 1, f"{where}: scale")[0]
        if scale <= 0:
            raise ValueError(f"{where}: scale is {scale}, expected the person's height / 200 pixels, above 0")
        center += (-1, 15 * scale - 1)
        half = PIXELS_PER_SCALE * scale / 2
        keypoints, labeled = mpii_to_coco(joints, labeled)
        read = {
            "keypoints": np.where(labeled[:, None], keypoints, 0),
            "labeled": labeled,
            "bbox": np.concatenate([center - half, center + half]),
            "area": max(AREA_OF_BOX * (2 * half) ** 2, 1),
        }
        return read if person["head_size"] is None else read | {"head_size": person["head_size"]}

    def _head_sizes(self, num_people: int) -> list[float]:
        """0.6 of the diagonals of the head boxes, in pixels."""
        from scipy.io import loadmat  # only PCKh needs it

        path = Path(self.head_boxes)
        if not path.is_file():
            raise FileNotFoundError(f"no head boxes at {path}: expected mpii_gt_val.mat of mmpose's MPII annotations")
        try:
            boxes = np.asarray(loadmat(path)["headboxes_src"], np.float64)
        except Exception as error:  # a damaged file may raise anything
            raise ValueError(
                f"{path} cannot be read ({error!r}): expected 'headboxes_src' as Matlab saves it"
            ) from error
        if boxes.shape != (2, 2, num_people) or not np.isfinite(boxes).all():
            raise ValueError(
                f"{path} has head boxes of shape {boxes.shape}, expected (2, 2, {num_people}), finite, a box for "
                f"each person of {self.ann_file}: mpii_gt_val.mat belongs to mpii_val.json"
            )
        return (HEAD_SIZE_OF_DIAGONAL * np.linalg.norm(boxes[1] - boxes[0], axis=0)).tolist()


def _img_id(name: str) -> int | str:
    stem = Path(name).stem
    return int(stem) if stem.isdecimal() else stem
