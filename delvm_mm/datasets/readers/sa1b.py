"""``SA1BDataset``: images with the masks of SA-1B, from the published archives or unpacked."""

import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from delvm_mm.codecs.masks.instance_map import MAX_PIXELS, instance_map
from delvm_mm.datasets.readers.base import ReaderDataset, parse_json, refuse_twice, require_folder, sorted_entries
from delvm_mm.datasets.readers.io.archive_index import ArchiveEntries, index_archives
from delvm_mm.datasets.readers.io.tar import TarReader
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

    What lies where in archives is found once, which takes about a second for each, and kept in a file of 43 bytes an
    image for each, which all processes map into memory; an archive with another size or time of change is read anew.

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
        index_dir: Folder for what is kept of archives. Defaults to ``.archive_index`` beside them, or, where that
            cannot be written, to one in the user's cache.
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
        index_dir: str | Path | None = None,
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
        self._index_dir = index_dir
        super().__init__(data_root, pipeline=pipeline, **kwargs)

    def load_data_list(self) -> Sequence[dict]:
        """One entry for each image of the share: its name, and where it and its annotation are."""
        root = Path(self.data_root)
        if self.form == "tar" or (self.form == "auto" and (root.is_file() or _has_archives(root))):
            entries = _entries_of_archives(root, self._index_dir)
            self.serialize_data = False  # they take less memory as they are
        else:
            entries = _pairs_in_folders(require_folder(root, "SA-1B's archives sa_*.tar, or its images"))
        if not len(entries):
            raise ValueError(
                f"{root} holds no image of SA-1B: expected archives sa_*.tar with sa_*.jpg and sa_*.json in them, or "
                "these unpacked, in data_root or in folders below it"
            )
        # Names are SA-1B's ids; other names may well be repeated from folder to folder.
        suspects = _with_a_number_again(entries) if isinstance(entries, ArchiveEntries) else entries
        names = (Path(entry["img_path"]).name for entry in suspects)
        refuse_twice((name for name in names if name.startswith("sa_")), f"{root}: among the archives and folders")
        first = min(round(self.offset * len(entries)), len(entries) - 1)
        last = max(round((self.offset + self.fraction) * len(entries)), first + 1)
        shuffled = np.random.default_rng(self.seed).permutation(len(entries))
        return _take(entries, np.sort(shuffled[first:last]))

    def filter_data(self) -> Sequence[dict]:
        """The samples that ``sample_list``, ``val_every`` and ``part`` ask for; MMEngine calls it."""
        return self.data_list if self._choice[0] is None and self._choice[2] is None else super().filter_data()

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> Sequence[dict]:
        if isinstance(self.data_list, ArchiveEntries) and not isinstance(indices, int):
            return self.data_list.take(np.asarray(indices, np.int64))
        return super()._get_unserialized_subset(indices)

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


def _entries_of_archives(root: Path, index_dir: str | Path | None) -> ArchiveEntries:
    archives = [root] if root.is_file() else sorted_entries(require_folder(root, "SA-1B's archives").glob("*.tar"))

    def show(done: int, total: int) -> None:
        if done == 0 and total > 10:
            print_log(f"{root}: finding the files in {total} archives, once; about {total} seconds", "current")

    indices = index_archives(archives, _pairs, index_dir, show)
    for index in indices:
        if index.damage:
            warnings.warn(
                f"{index.archive} {index.damage}: only what lies before is used; download the archive again",
                stacklevel=2,
            )
    return ArchiveEntries(indices)


def _with_a_number_again(entries: ArchiveEntries) -> ArchiveEntries:
    """Those whose number another one has, too; numbers, unlike names, are compared without making entries of all."""
    numbers = entries.numbers("sa_")
    ordered = np.sort(numbers)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return entries.take(np.flatnonzero(np.isin(numbers, again[again >= 0])))


def _take(entries: Sequence[dict], positions: np.ndarray) -> Sequence[dict]:
    if isinstance(entries, ArchiveEntries):
        return entries.take(positions)
    return [entries[position] for position in positions.tolist()]


def _pairs_in_folders(root: Path) -> list[dict]:
    pairs: list[dict] = []
    for folder in (root, *sorted_entries(entry for entry in root.iterdir() if entry.is_dir())):
        with os.scandir(folder) as entries:
            files = {entry.name: entry.path for entry in entries}
        pairs += [
            {"img_path": f"{folder}/{stem}.jpg", "archive": None, "image": image, "annotation": annotation}
            for stem, image, annotation in _pairs(files)
        ]
    return pairs


def _pairs(files: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The images and annotations in a folder or archive, ordered by number.

    Args:
        files: Where each file lies, by name.

    Returns:
        Stem of the names, where the image lies and where the annotation; None where there is none.
    """
    matches = (_IMAGE.fullmatch(file) or _ANNOTATION.fullmatch(file) for file in files)
    stems = {match[1] for match in matches if match}
    return [
        (stem, files.get(f"{stem}.jpg"), files.get(f"{stem}.json"))
        for stem in sorted(stems, key=lambda stem: (len(stem), stem))
    ]
