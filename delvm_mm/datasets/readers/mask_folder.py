"""Images and their masks in two folders: one's own segmentation data, and published sets in that form."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.datasets.readers.base import IMAGE_SUFFIXES, ReaderDataset, images_in, require_folder
from delvm_mm.datasets.readers.io.files import one_form
from delvm_mm.datasets.readers.io.image import read_image, turned_by_exif
from delvm_mm.datasets.readers.io.label_map import read_label_values
from delvm_mm.registry import DATASETS

__all__ = ["MaskFolderDataset"]

_SHOWN_NAMES = 5


@DATASETS.register_module()
class MaskFolderDataset(ReaderDataset):
    """A folder of images and a folder of PNG masks, paired by file name without suffix.

    Layout::

        data_root/
        ├── images/       a.jpg, b.png, ...      of any mode and size
        ├── masks/        a.png, b.png, ...      of 1, 8 or 16 bits, gray, palette, or RGB with three equal channels
        └── train.txt     a, b, ... one name a line, optional; "a.jpg" and what follows a blank are accepted too

    Results have ``img``, RGB uint8 H x W x 3, read here because it decides the size of the mask, with ``img_path``,
    ``img_shape`` and ``ori_shape``, and ``gt_seg_map``, uint8 or uint16 H x W: 0 is background, ``ignore_index`` is
    left out of scores, the rest is foreground (``ForegroundMaskCodec``).

    Args:
        data_root: Folder of the data set.
        img_dir: Folder of the images under ``data_root``.
        mask_dir: Folder of the masks under ``data_root``.
        img_suffix: Of the images, e.g. '.jpg'; by default any image format.
        mask_suffix: What stands in place of it in the mask's name, e.g. '_mask.png'.
        ann_file: List of names under ``data_root``, in that order; by default all masks, sorted.
        label_map: Value in the file -> value of ``gt_seg_map``, e.g. ``{1: 1, 2: 0, 3: 255}`` for the trimaps of
            Oxford-IIIT Pet. Values that it does not name are an error. By default values stay; a mask of two values,
            0 and the largest of its depth, is 0 and 1.
        ignore_index: Value of ``gt_seg_map`` that scores leave out.
        **kwargs: ``task``, ``metainfo``, ``pipeline`` and others of ``ReaderDataset``.

    Raises:
        FileNotFoundError: A folder or the list is missing, or a listed image or mask is not there.
        ValueError: There is no pair, or an argument is out of range.

    Example:
        >>> pets = MaskFolderDataset("pets", mask_dir="annotations/trimaps", ann_file="train.txt",  # doctest: +SKIP
        ...                          label_map={1: 1, 2: 0, 3: 255})
    """

    METAINFO: dict = dict(task="seg", classes=("background", "foreground"))

    def __init__(
        self,
        data_root: str | Path,
        img_dir: str | Path = "images",
        mask_dir: str | Path = "masks",
        img_suffix: str | None = None,
        mask_suffix: str = ".png",
        ann_file: str | Path | None = None,
        label_map: Mapping[int, int] | None = None,
        ignore_index: int = 255,
        **kwargs: Any,
    ) -> None:
        self.img_dir, self.mask_dir = str(img_dir), str(mask_dir)
        self.img_suffix, self.mask_suffix, self.list_file = img_suffix, mask_suffix, ann_file
        self.label_map = None if label_map is None else _check_label_map(label_map)
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, int) or not 0 < ignore_index < 2**16:
            raise ValueError(f"ignore_index is {ignore_index!r}, expected a whole number from 1 to 65535")
        self.ignore_index = ignore_index
        super().__init__(data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the pairs."""
        images = require_folder(Path(self.data_root, self.img_dir), "the images")
        masks = require_folder(Path(self.data_root, self.mask_dir), "their masks")
        image_of = self._images_by_name(images)
        mask_of = {
            one_form(path.name[: -len(self.mask_suffix)]): path
            for path in masks.iterdir()
            if path.name.endswith(self.mask_suffix) and not path.name.startswith(".")
        }
        if self.list_file is None:
            names, listed_in = sorted(mask_of), str(masks)
            if not names:
                raise ValueError(f"{masks} holds no mask *{self.mask_suffix}: check mask_dir and mask_suffix")
        else:
            path = Path(self.data_root, self.list_file)
            names, listed_in = _read_names(path, self.img_suffix), str(path)
        for found, folder, what, option in (
            (image_of, images, "image", "img_suffix"),
            (mask_of, masks, "mask", "mask_suffix"),
        ):
            missing = [name for name in names if name not in found]
            if missing:
                shown = ", ".join(missing[:_SHOWN_NAMES]) + (", ..." if len(missing) > _SHOWN_NAMES else "")
                raise FileNotFoundError(
                    f"{len(missing)} of {len(names)} names of {listed_in} have no {what} in {folder}: {shown}. Add the "
                    f"files, take the names out, or check {option}"
                )
        return [{"img_path": str(image_of[name]), "seg_map_path": str(mask_of[name])} for name in names]

    def read_sample(self, entry: dict) -> dict:
        """Results dict with image and mask.

        Returns:
            See the class.

        Raises:
            ValueError: A file is damaged, or the mask has another size than the image, or a value without a label.
        """
        image = read_image(entry["img_path"])
        mask = read_label_values(entry["seg_map_path"], white=255, what="mask")
        if mask.shape != image.shape[:2]:
            cause = turned_by_exif(entry["img_path"], mask.shape[::-1])
            raise ValueError(
                f"{entry['seg_map_path']} has {mask.shape[1]}x{mask.shape[0]} pixels, its image {entry['img_path']} "
                f"{image.shape[1]}x{image.shape[0]} (EXIF orientation applied)" + (cause or ": save both at one size")
            )
        shape = image.shape[:2]
        labels = self._labels(mask, entry["seg_map_path"])
        return entry | {"img": image, "img_shape": shape, "ori_shape": shape, "gt_seg_map": labels}

    def _images_by_name(self, folder: Path) -> dict[str, Path]:
        if self.img_suffix is None:
            paths = [(path.stem, path) for path in images_in(folder)]
        else:
            paths = [
                (path.name[: -len(self.img_suffix)], path)
                for path in sorted(folder.iterdir())
                if path.name.endswith(self.img_suffix) and not path.name.startswith(".")
            ]
        if not paths:
            kinds = self.img_suffix or ", ".join(IMAGE_SUFFIXES)
            raise ValueError(f"{folder} holds no image ({kinds}): check img_dir and img_suffix")
        by_name = {}
        for name, path in ((one_form(name), path) for name, path in paths):
            if name in by_name:
                raise ValueError(f"{folder} has two images of one name, {by_name[name].name} and {path.name}: keep one")
            by_name[name] = path
        return by_name

    def _labels(self, mask: np.ndarray, path: str) -> np.ndarray:
        if self.label_map is None:
            values = set(np.unique(mask).tolist())
            # Only black and white, as drawing programs save a mask: white is the object, not what is to be ignored.
            if values <= {0, np.iinfo(mask.dtype).max} and values != {0}:
                return (mask > 0).astype(np.uint8)
            return mask
        unknown = sorted(set(np.unique(mask).tolist()) - set(self.label_map))
        if unknown:
            raise ValueError(
                f"{path} holds the values {unknown[:_SHOWN_NAMES]}, label_map names {sorted(self.label_map)}: add them "
                f"to label_map, as {self.ignore_index} where scores should leave them out"
            )
        kind = np.uint8 if max(self.label_map.values()) < 2**8 else np.uint16
        table = np.zeros(max(self.label_map) + 1, kind)
        for value, label in self.label_map.items():
            table[value] = label
        return table[mask]


def _read_names(path: Path, img_suffix: str | None) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"no list at {path}: ann_file names a text file with a name in each line")
    names = []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name = line.split()[0]
        suffixes = IMAGE_SUFFIXES if img_suffix is None else (img_suffix,)
        ending = next((suffix for suffix in suffixes if name.lower().endswith(suffix.lower())), "")
        names.append(one_form(name[: len(name) - len(ending)]))
    if not names:
        raise ValueError(f"{path} names no image: expected a name in each line")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path} names {twice} twice: keep one line of it")
    return names


def _check_label_map(label_map: Mapping[int, int]) -> dict[int, int]:
    # JSON and --cfg-options know only strings as keys.
    try:
        checked = {int(value): int(label) for value, label in label_map.items()}
    except (TypeError, ValueError, AttributeError):
        checked = {}
    if not checked or not all(0 <= each < 2**16 for pair in checked.items() for each in pair):
        raise ValueError(f"label_map is {label_map!r}, expected value -> label, whole numbers from 0 to 65535")
    return checked
