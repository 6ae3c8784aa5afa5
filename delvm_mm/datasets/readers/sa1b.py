"""``SA1BDataset``: images with the masks of SA-1B, from the published archives or unpacked."""

import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.codecs.instance_map import MAX_PIXELS, instance_map
from delvm_mm.datasets.readers.base import ReaderDataset, parse_json, refuse_twice, require_folder, sorted_entries
from delvm_mm.datasets.readers.io.tar import TarReader, index_tar
from delvm_mm.registry import DATASETS

__all__ = ["SA1BDataset"]

FORMS = ("auto", "folder", "tar")
# Any image is a sample; an annotation without one only if it is named like SA-1B's.
_IMAGE = re.compile(r"((?:.*/)?[^./][^/]*)\.jpg")
_ANNOTATION = re.compile(r"((?:.*/)?sa_\d+)\.json")


@DATASETS.register_module()
class SA1BDataset(ReaderDataset):
    """Images of SA-1B with their masks in one instance map; task 'seg'.

    Source: https://ai.meta.com/datasets/segment-anything-downloads (Kirillov et al., "Segment Anything", 2023); the
    annotation's format: https://github.com/facebookresearch/segment-anything#dataset. 1000 archives of about 11 000
    images and 10 GB each, which are read as they are::

        data_root/
        ├── sa_000000.tar
        │   ├── ./sa_1.jpg
        │   ├── ./sa_1.json
        │   ├── ./sa_2.jpg
        │   └── ...
        ├── sa_000001.tar
        └── ...

    or unpacked, in a folder for each archive or all in one::

        data_root/                       data_root/
        ├── sa_000000/                   ├── sa_1.jpg
        │   ├── sa_1.jpg                 ├── sa_1.json
        │   ├── sa_1.json                ├── sa_2.jpg
        │   └── ...                      └── ...
        └── ...

    ``data_root`` may also be a single archive. An annotation file has ``image`` (``image_id``, ``width``, ``height``,
    ``file_name``) and ``annotations``, each with ``segmentation`` (COCO RLE: ``size`` [height, width], ``counts``);
    the rest (``bbox``, ``area``, ``predicted_iou``, ``stability_score``, ``crop_box``, ``point_coords``, ``id``) is not
    used.

    Samples are ordered by archive or folder, then by the number in the name, in both forms. Results dicts have
    ``img_path`` (of an image in an archive: archive/name, and the encoded file as ``img_bytes``) and
    ``gt_instance_map`` (uint16 H x W; 0 no mask, 1..N by area, the largest is 1 and lies lowest).

    A mask that is there twice, an annotation that names another image, and an image in two places are refused.

    An archive that is cut short gives what lies before the cut, with a warning. An image that is cut or has no
    annotation, and an annotation that has no image, are samples that raise ``ValueError`` when they are read.

    Args:
        data_root: See above.
        form: 'folder', 'tar', or 'auto': what there is.
        fraction: Share of the images to use, chosen by ``seed``, in (0, 1]; at least one image.
        seed: Seed of that choice.
        offset: Where in the shuffled images the share begins, in [0, 1): with the same seed, the shares
            ``offset=0, fraction=0.1`` and ``offset=0.9, fraction=0.1`` have no image in common.
        min_area: Masks with a smaller area are left out: in pixels (int), or as a share of the image (float below
            1).
        **kwargs: Those of :class:`ReaderDataset`: ``pipeline``, ``num_views``, ``indices``, ...

    Raises:
        FileNotFoundError: There is no such folder or archive.
        ValueError: An argument is out of range, there is no image, or an image of SA-1B is there twice.
    """

    METAINFO: dict = dict(task="seg", classes=("mask",))

    def __init__(
        self,
        data_root: str | Path,
        form: str = "auto",
        fraction: float = 1.0,
        seed: int = 0,
        offset: float = 0.0,
        min_area: int | float = 1,
        pipeline: Sequence[dict | Callable] = (),
        **kwargs: Any,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form is {form!r}, expected one of {', '.join(map(repr, FORMS))}")
        if not 0 < fraction <= 1 or not 0 <= offset < 1 or fraction + offset > 1 + 1e-9:
            raise ValueError(
                f"fraction is {fraction} and offset {offset}, expected a share in (0, 1] and its begin in [0, 1), "
                "together at most 1"
            )
        if min_area < 0 or (isinstance(min_area, float) and min_area >= 1):
            raise ValueError(f"min_area is {min_area!r}, expected a number of pixels (int) or a share below 1 (float)")
        self.form, self.fraction, self.seed, self.offset, self.min_area = form, fraction, seed, offset, min_area
        self._archives = TarReader()
        super().__init__(data_root, pipeline=pipeline, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One entry for each image of the share: its name, and where it and its annotation are."""
        root = Path(self.data_root)
        if self.form == "tar" or (self.form == "auto" and (root.is_file() or _has_archives(root))):
            pairs = _pairs_in_archives(root)
        else:
            pairs = _pairs_in_folders(require_folder(root, "SA-1B's archives sa_*.tar, or its images"))
        if not pairs:
            raise ValueError(
                f"{root} holds no image of SA-1B: expected archives sa_*.tar with sa_*.jpg and sa_*.json in them, or "
                "these unpacked, in data_root or in folders below it"
            )
        # Names are SA-1B's ids; other names may well be repeated from folder to folder.
        names = (Path(pair["img_path"]).name for pair in pairs)
        refuse_twice((name for name in names if name.startswith("sa_")), f"{root}: among the archives and folders")
        first = min(round(self.offset * len(pairs)), len(pairs) - 1)
        last = max(round((self.offset + self.fraction) * len(pairs)), first + 1)
        shuffled = np.random.default_rng(self.seed).permutation(len(pairs))
        return [pairs[position] for position in np.sort(shuffled[first:last]).tolist()]

    def read_sample(self, entry: dict) -> dict:
        """Read the annotation, and of an archive the image's encoded file."""
        name, archive = entry["img_path"], entry["archive"]
        if entry["image"] is None:
            raise ValueError(f"{name} is missing, only its annotation {Path(name).stem}.json is there")
        if entry["annotation"] is None:
            raise ValueError(f"{name} has no annotation: {Path(name).stem}.json is missing beside it")
        sample = {"img_path": name}
        if archive is None:
            content = Path(entry["annotation"]).read_bytes()
        else:
            try:
                content = self._archives.read(archive, *entry["annotation"])
                sample["img_bytes"] = self._archives.read(archive, *entry["image"])
            except ValueError as error:
                raise ValueError(f"{name} or its annotation cannot be read: {error}") from error
        annotation_name = f"{Path(name).with_suffix('.json')} (annotation of {Path(name).name})"
        annotation = parse_json(content, annotation_name)
        sample["gt_instance_map"] = self._instances(annotation, annotation_name)
        of_image = annotation["image"].get("file_name", Path(name).name)
        if of_image != Path(name).name:
            raise ValueError(f"{annotation_name} says that it is of {of_image!r}: download both again")
        return sample

    def _instances(self, annotation: Any, name: str) -> np.ndarray:
        """The instance map of the content of an annotation file."""
        image = annotation.get("image") if isinstance(annotation, dict) else None
        masks = annotation.get("annotations") if isinstance(annotation, dict) else None
        if not isinstance(image, dict) or not isinstance(masks, list):
            raise ValueError(f"{name} has no 'image' and 'annotations' as SA-1B's have: download the file again")
        shape = (image.get("height"), image.get("width"))
        if [type(side) for side in shape] != [int, int] or min(shape) < 1 or shape[0] * shape[1] > MAX_PIXELS:
            raise ValueError(
                f"{name} gives height {shape[0]!r} and width {shape[1]!r}, expected whole numbers of pixels, at most "
                f"{MAX_PIXELS} in all"
            )
        refuse_twice((mask["id"] for mask in masks if isinstance(mask, dict) and "id" in mask), f"{name}: mask")
        is_share = isinstance(self.min_area, float)
        min_area = int(np.ceil(self.min_area * shape[0] * shape[1])) if is_share else self.min_area
        try:
            return instance_map(masks, shape, min_area)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def _has_archives(root: Path) -> bool:
    """Whether a folder holds archives; both archives and unpacked images would be samples twice."""
    if not root.is_dir() or not any(root.glob("*.tar")):
        return False
    if any(root.glob("*/sa_*.jpg")) or any(root.glob("sa_*.jpg")):
        raise ValueError(f"{root} holds archives as well as unpacked images: choose with form='tar' or form='folder'")
    return True


def _pairs_in_archives(root: Path) -> list[dict]:
    archives = [root] if root.is_file() else sorted_entries(require_folder(root, "SA-1B's archives").glob("*.tar"))
    pairs: list[dict] = []
    for archive in archives:
        members, damage = index_tar(archive)
        if damage:
            warnings.warn(
                f"{archive} {damage}: only what lies before is used; download the archive again", stacklevel=2
            )
        pairs += _pair(members, archive, str(archive))
    return pairs


def _pairs_in_folders(root: Path) -> list[dict]:
    pairs: list[dict] = []
    for folder in (root, *sorted_entries(entry for entry in root.iterdir() if entry.is_dir())):
        with os.scandir(folder) as entries:
            files = {entry.name: entry.path for entry in entries}
        pairs += _pair(files, folder, None)
    return pairs


def _pair(files: dict[str, Any], place: Path, archive: str | None) -> list[dict]:
    """Entries of the images and annotations in a folder or archive, ordered by number.

    Args:
        files: Where each file lies, by name.
        place: The folder or archive.
        archive: The archive, None if it is a folder.

    Returns:
        An entry for each number; ``image`` or ``annotation`` is None where there is none.
    """
    matches = (_IMAGE.fullmatch(file) or _ANNOTATION.fullmatch(file) for file in files)
    stems = {match[1] for match in matches if match}
    return [
        {
            "img_path": f"{place}/{stem}.jpg",
            "archive": archive,
            "image": files.get(f"{stem}.jpg"),
            "annotation": files.get(f"{stem}.json"),
        }
        for stem in sorted(stems, key=lambda stem: (len(stem), stem))
    ]
