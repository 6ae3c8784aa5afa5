"""Pascal-5i: VOC 2012 and SBD, one foreground class at a time, in the four folds of Shaban et al."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from PIL import Image, UnidentifiedImageError
from rich import get_console
from rich.progress import track

from delvm_mm.datasets.readers.base import ReaderDataset, refuse_twice, require_folder
from delvm_mm.datasets.readers.io.files import present
from delvm_mm.datasets.readers.io.image import DECODING_ERRORS, MAX_PIXELS, image_size, turned_by_exif
from delvm_mm.registry import DATASETS

__all__ = ["PASCAL_CLASSES", "Pascal5iDataset", "read_label_map"]

# In the order of VOC's label maps, where 0 is the background and 255 the border of objects.
PASCAL_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
NUM_FOLDS = 4
IGNORED = 255
UNKNOWN_CLASS = -1
SBD_CLASSES = Path("dataset", "cls")
SHOW_PROGRESS_FROM = 1000  # label maps; some seconds
READING_THREADS = 4  # decoding leaves Python's lock, and a network drive is waited for


@DATASETS.register_module()
class Pascal5iDataset(ReaderDataset):
    """One class of one image of VOC 2012 (and SBD) at a time, in four folds that hold out five classes each.

    The folds are those of Shaban et al., "One-Shot Learning for Semantic Segmentation", BMVC 2017 (arXiv 1709.03410):
    fold i holds out the classes 5i+1 to 5i+5. The layout::

        data_root                          # VOCdevkit/VOC2012 of VOCtrainval_11-May-2012.tar,
        ├── ImageSets/Segmentation         # http://host.robots.ox.ac.uk/pascal/VOC/voc2012/
        │   ├── train.txt                  # 1464 names
        │   └── val.txt                    # 1449 names
        ├── JPEGImages
        │   └── 2007_000032.jpg ...
        ├── SegmentationClass
        │   └── 2007_000032.png ...        # palette PNG: 0 background, 1 to 20 classes, 255 border
        └── SegmentationClassAug           # optional: SBD as PNG, 12 031 files, as mmseg and others use it
            └── 2008_000002.png ...

        benchmark_RELEASE                  # or SBD as published, http://home.bharathh.info/pubs/codes/SBD
        └── dataset                        # (benchmark.tgz)
            ├── cls/2008_000002.mat ...    # 11 355 files: GTcls.Segmentation
            └── img/2008_000002.jpg ...    # used for images that JPEGImages lacks

    A sample is an image and one class that it shows: with ``split='val'`` the images of VOC's val and the fold's
    five classes; with ``'train'`` those of VOC's train, and of SBD without VOC's val, and the other fifteen. Prompts
    for the held-out classes, which training must not see, come from ``split='train', classes='held_out'``.

    Results dicts have ``img_path``, ``seg_map_path``, ``img_id`` (the file's name without suffix), ``class_id`` (1
    to 20), ``class_name`` and ``gt_seg_map`` (uint8 H x W): 1 where the class is, 0 elsewhere, 255 at VOC's borders,
    which do not count (SBD has none).

    To know what classes an image shows, the label maps are read once when the data set is built; they are remembered
    for other data sets of this process. Lists of images (``class_lists``) make that unnecessary. A label map that
    cannot be read, or holds what a label map may not, becomes one sample, an error when it is asked for.

    Args:
        data_root: The folder VOC2012.
        fold: 0 to 3.
        split: 'train' or 'val': which images.
        classes: 'held_out' for the fold's five classes, 'others' for the other fifteen; by default, the split's.
        sbd: Folder of SBD, from ``data_root`` on, added to 'train': label maps as PNG, or benchmark_RELEASE.
        class_lists: Folder of lists, one ``<class name>.txt`` each with the names of images that show the class,
            from ``data_root`` on. Only names of the split count.
        min_area: Leave out classes that fill a smaller part of the image, in (0, 1).
        **kwargs: ``pipeline``, ``indices``, ``num_views``, ``metainfo`` of :class:`ReaderDataset`.

    Raises:
        FileNotFoundError: A folder or list is missing.
        ValueError: An argument is out of range, a list is empty, or no image shows a class.
    """

    METAINFO: dict = dict(task="seg", classes=PASCAL_CLASSES)

    def __init__(
        self,
        data_root: str | Path,
        fold: int,
        split: str = "val",
        classes: str | None = None,
        sbd: str | Path | None = None,
        class_lists: str | Path | None = None,
        min_area: float | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(fold, bool) or fold not in range(NUM_FOLDS):
            raise ValueError(f"fold must be 0, 1, 2 or 3, got {fold!r}")
        if split not in ("train", "val"):
            raise ValueError(f"split must be 'train' or 'val', got {split!r}")
        if classes not in (None, "held_out", "others"):
            raise ValueError(f"classes must be 'held_out' or 'others', got {classes!r}")
        if sbd is not None and split == "val":
            raise ValueError("sbd has no 'val' here, which is VOC's alone: give it with split='train'")
        if min_area is not None and not 0 < min_area < 1:
            raise ValueError(f"min_area must be a part of the image in (0, 1), got {min_area!r}")
        if min_area is not None and class_lists is not None:
            raise ValueError("min_area needs the label maps read: do not give class_lists with it")
        self.split = split
        self.sbd = None if sbd is None else Path(data_root, sbd)
        self.class_lists = None if class_lists is None else Path(data_root, class_lists)
        self.min_area = min_area
        held_out = range(5 * fold + 1, 5 * fold + 6)
        if (classes or ("held_out" if split == "val" else "others")) == "held_out":
            self.wanted = tuple(held_out)
        else:
            self.wanted = tuple(number for number in range(1, len(PASCAL_CLASSES) + 1) if number not in held_out)
        super().__init__(data_root, **kwargs)

    @property
    def class_ids(self) -> np.ndarray:
        """Class of every sample, 1 to 20; -1 where the label map could not be read."""
        return np.array(self._column("class_id"))

    @property
    def img_paths(self) -> list[str]:
        """Image file of every sample."""
        return self._column("img_path")

    def load_data_list(self) -> list[dict]:
        """Entries of all images and classes, in the order of VOC's list, then by name."""
        maps = self._label_maps()
        shown = self._listed(maps) if self.class_lists else _scan(list(maps.values()))
        image_paths = self._image_paths()
        entries = []
        for name, areas in zip(maps, shown, strict=True):
            entry = {"img_path": image_paths(name), "seg_map_path": maps[name], "img_id": name}
            if areas is None:
                entries.append(entry | {"class_id": UNKNOWN_CLASS, "class_name": ""})
                continue
            for number in self.wanted:
                if areas.get(number, 0) > 0 and areas[number] >= (self.min_area or 0):
                    entries.append(entry | {"class_id": number, "class_name": PASCAL_CLASSES[number - 1]})
        if not entries:
            names = ", ".join(PASCAL_CLASSES[number - 1] for number in self.wanted)
            raise ValueError(f"none of the {len(maps)} images of {self.data_root} ({self.split}) shows one of {names}")
        return entries

    def read_sample(self, entry: dict) -> dict:
        """Results dict with the class's mask; see the class."""
        labels = read_label_map(entry["seg_map_path"])
        size = image_size(entry["img_path"])
        if size is not None and labels.shape != size[::-1]:
            cause = turned_by_exif(entry["img_path"], labels.shape[::-1]) or ": use both as they were published"
            raise ValueError(
                f"{entry['seg_map_path']} is a label map of {labels.shape[1]}x{labels.shape[0]} pixels, its image "
                f"{entry['img_path']} has {size[0]}x{size[1]}{cause}"
            )
        if entry["class_id"] == UNKNOWN_CLASS:
            raise ValueError(f"{entry['seg_map_path']} could not be read when the data set was built: build it again")
        mask = labels == entry["class_id"]
        if not mask.any():
            raise ValueError(
                f"{entry['seg_map_path']} shows no {entry['class_name']}: the file, or {self.class_lists}, is not what "
                "the data set was built from"
            )
        return entry | {"gt_seg_map": np.where(labels == IGNORED, np.uint8(IGNORED), mask.astype(np.uint8))}

    def _label_maps(self) -> dict[str, str]:
        """Label map of each image of the split, by the image's name."""
        lists = Path(self.data_root, "ImageSets", "Segmentation")
        folder = require_folder(Path(self.data_root, "SegmentationClass"), "the label maps of VOC 2012")
        maps = {name: str(present(folder / f"{name}.png")) for name in _read_names(lists / f"{self.split}.txt")}
        if self.sbd is not None:
            evaluated = {*_read_names(lists / "val.txt")}
            original = (self.sbd / SBD_CLASSES).is_dir()
            folder = require_folder(self.sbd / SBD_CLASSES if original else self.sbd, "the label maps of SBD")
            suffix = ".mat" if original else ".png"
            added = sorted(path for path in os.listdir(folder) if path.endswith(suffix) and not path.startswith("."))
            if not added:
                raise ValueError(
                    f"{folder} holds no *{suffix}: sbd should be a folder of label maps, or benchmark_RELEASE of SBD"
                )
            for file in added:
                name = file.removesuffix(suffix)
                if name not in maps and name not in evaluated:
                    maps[name] = str(folder / file)
        return maps

    def _image_paths(self) -> Any:
        """Function from an image's name to its path: in VOC's folder, or in SBD's where only that has it."""
        folder = require_folder(Path(self.data_root, "JPEGImages"), "the images of VOC 2012")
        other = None if self.sbd is None else self.sbd / SBD_CLASSES.parent / "img"
        if other is None or not other.is_dir():
            return lambda name: str(folder / f"{name}.jpg")
        there = {*os.listdir(folder)}
        return lambda name: str((folder if f"{name}.jpg" in there else other) / f"{name}.jpg")

    def _listed(self, names: Sequence[str]) -> list[dict[int, float]]:
        """Classes of each image as ``class_lists`` has them; their areas are not known, and 1."""
        require_folder(self.class_lists, "lists of images, <class name>.txt")
        shown: dict[str, dict[int, float]] = {name: {} for name in names}
        for number in self.wanted:
            for name in _read_names(self.class_lists / f"{PASCAL_CLASSES[number - 1]}.txt"):
                if name in shown:
                    shown[name][number] = 1.0
        return list(shown.values())

    def _column(self, key: str) -> list:
        # BaseDataset's entries: nothing is read, and ``indices`` are applied.
        entries = (BaseDataset.get_data_info(self, number) for number in range(BaseDataset.__len__(self)))
        return [entry[key] for entry in entries for _ in range(self.num_views)]


def read_label_map(path: str | Path) -> np.ndarray:
    """Label map of VOC (PNG) or SBD (``.mat``).

    Returns:
        uint8 H x W: 0 background, 1 to 20 classes, 255 ignored.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no label map at {path}: see the layout in the docstring of Pascal5iDataset")
    labels = _read_mat(path) if path.suffix == ".mat" else _read_png(path)
    wrong = labels[(labels > len(PASCAL_CLASSES)) & (labels != IGNORED)]
    if wrong.size:
        raise ValueError(
            f"{path} holds the values {np.unique(wrong)[:5].tolist()}, expected 0 (background), "
            f"1 to {len(PASCAL_CLASSES)} (classes) and {IGNORED} (ignored)"
        )
    return labels


def _read_png(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS}")
            mode = image.mode
            if mode in ("P", "L"):
                return np.array(image)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image: expected a label map as palette PNG") from error
    except (*DECODING_ERRORS, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a label map ({error}): copy or download it again") from error
    raise ValueError(
        f"{path} has mode {mode}, expected a palette or gray PNG whose values are the classes: VOC's label maps, not "
        "color images of them"
    )


def _read_mat(path: Path) -> np.ndarray:
    from scipy.io import loadmat  # only SBD as published needs it

    try:
        labels = loadmat(path, variable_names="GTcls")["GTcls"]["Segmentation"][0, 0]
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"{path} cannot be read ({error!r}): expected GTcls.Segmentation of SBD") from error
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.size == 0:
        raise ValueError(f"{path}: GTcls.Segmentation is {labels.dtype} of shape {labels.shape}, expected uint8 H x W")
    return labels


def _scan(paths: list[str]) -> list[dict[int, float] | None]:
    """Part of the image that each class fills, for each label map; None where it cannot be read."""
    with ThreadPoolExecutor(READING_THREADS) as threads:
        scanned = threads.map(_areas_of_file, paths)
        hidden = len(paths) < SHOW_PROGRESS_FROM or not is_main_process() or not get_console().is_terminal
        return list(track(scanned, "classes in label maps", len(paths), disable=hidden, transient=True))


def _areas_of_file(path: str) -> dict[int, float] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return _areas(path, state.st_mtime_ns, state.st_size)


@cache
def _areas(path: str, changed: int, size: int) -> dict[int, float] | None:
    """Remembered for as long as the file keeps its time of change and size."""
    try:
        labels = read_label_map(path)
    except (OSError, ValueError):
        return None
    counts = np.bincount(labels.reshape(-1), minlength=256)[1 : len(PASCAL_CLASSES) + 1]
    return {int(number) + 1: counts[number] / labels.size for number in np.flatnonzero(counts)}


def _read_names(path: Path) -> list[str]:
    """Names of images, one in each line."""
    if not path.is_file():
        raise FileNotFoundError(f"no list of images at {path}: check data_root and the data set's layout")
    try:
        names = path.read_text(encoding="utf-8-sig").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: expected the name of an image in each line") from error
    if not names:
        raise ValueError(f"{path} is empty: expected the name of an image in each line")
    refuse_twice(names, f"{path}: image")
    return names
