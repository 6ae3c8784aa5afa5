"""Readers of single images: any folder, and ImageNet."""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from delvm_mm.datasets.readers.base import (
    IMAGE_SUFFIXES,
    ReaderDataset,
    list_images,
    refuse_twice,
    require_folder,
    sorted_entries,
)
from delvm_mm.registry import DATASETS
from delvm_mm.toolboxes import require_toolbox

__all__ = ["ImageFolderDataset", "ImageNetDataset", "ScikitImageDataset", "walk_folders"]


@DATASETS.register_module()
class ImageFolderDataset(ReaderDataset):
    """All images of a folder, each a clip of one: ``PackClip(keys=('img',))``.

    Layout::

        data_root/
        ├── a.jpg
        ├── b.png
        └── more/           with recursive=True, at any depth
            └── c.jpg

    Samples are sorted by path; hidden files and folders are left out, other files ignored.

    Args:
        data_root: The folder.
        recursive: Whether images in sub-folders belong to it.
        **kwargs: As ``ReaderDataset``.

    Raises:
        OSError: The folder, or one in it, is missing or cannot be listed.
        ValueError: There is no image.
    """

    METAINFO: dict = dict(task="image")

    def __init__(self, data_root: str | Path, recursive: bool = True, **kwargs: Any) -> None:
        self.recursive = recursive
        super().__init__(data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images."""
        if self.recursive:
            images = sorted_entries(path for _, paths in walk_folders(self.data_root) for path in paths)
            if not images:
                raise ValueError(f"{self.data_root} and the folders in it hold no image ({', '.join(IMAGE_SUFFIXES)})")
        else:
            images = list_images(self.data_root)
        return [{"img_path": str(image)} for image in images]


@DATASETS.register_module()
class ScikitImageDataset(ReaderDataset):
    """Photographs that scikit-image brings along, so that there are some to try without a download.

    Which there are, whose they are and how they are licensed: https://scikit-image.org/docs/stable/api/skimage.data.html;
    those that it would have to download first are not read.

    Args:
        names: File names, such as 'chelsea.png', in the order of the samples.
        **kwargs: As ``ReaderDataset``, without ``data_root``.

    Raises:
        ValueError: There is no name, or scikit-image does not bring a file of that name along.
    """

    METAINFO: dict = dict(task="image")

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        package = importlib.util.find_spec("skimage").submodule_search_locations[0]
        self.names = list(names)
        super().__init__(Path(package, "data"), **kwargs)

    def load_data_list(self) -> list[dict]:
        """Look for the files."""
        there = [image.name for image in list_images(self.data_root)]
        missing = [name for name in self.names if name not in there]
        if missing or not self.names:
            raise ValueError(f"names are {self.names}, expected some of those that {self.data_root} has: {there}")
        return [{"img_path": str(Path(self.data_root, name))} for name in self.names]


@DATASETS.register_module()
class ImageNetDataset(ReaderDataset):
    """ImageNet-1k (ILSVRC2012), listed by ``mmpretrain.datasets.ImageNet``; a clip is one image.

    Layout, one of the two that mmpretrain reads, see `ImageNet <https://image-net.org/download-images>`_::

        imagenet/                                       imagenet/
        ├── train/                                      ├── train/
        │   ├── n01440764/n01440764_10026.JPEG          │   └── n01440764/n01440764_10026.JPEG
        │   └── ...  1000 folders, 1 281 167 images   ├── val/
        └── val/                                        │   └── ILSVRC2012_val_00000001.JPEG
            ├── n01440764/ILSVRC2012_val_00000293.JPEG  └── meta/
            └── ...  1000 folders, 50 000 images          ├── train.txt   n01440764/n01440764_10026.JPEG 0
                                                            └── val.txt     ILSVRC2012_val_00000001.JPEG 65

    Results have ``img_path`` and ``gt_label``, 0 to 999 (folders in the order of their names); ``metainfo`` has the
    names as ``classes``. Part of ImageNet, with fewer folders and no ``meta``, is read by ``ImageFolderDataset``.

    Args:
        data_root: The folder that holds ``train`` and ``val``.
        split: 'train' or 'val'.
        **kwargs: As ``ReaderDataset``.

    Raises:
        FileNotFoundError: The folder of the split is missing.
        ImportError: mmpretrain is not installed or cannot be imported.
        ValueError: ``split`` is another, the layout is none of the two, or the list in ``meta`` is damaged.
    """

    METAINFO: dict = dict(task="image")

    def __init__(self, data_root: str | Path, split: str = "train", **kwargs: Any) -> None:
        if split not in ("train", "val"):
            raise ValueError(f"ImageNetDataset: split is {split!r}, expected 'train' or 'val'")
        self.split = split
        super().__init__(data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images with their labels."""
        reader = require_toolbox("mmpretrain.datasets").ImageNet
        folder = require_folder(Path(self.data_root, self.split), "the images of ImageNet")
        try:
            listed = reader(data_root=self.data_root, split=self.split, serialize_data=False)
        except (AssertionError, RuntimeError, ValueError) as error:
            listing = Path(self.data_root, "meta", f"{self.split}.txt")
            expected = (
                f"expected a line 'image label' for each image in {listing}"
                if listing.is_file()
                else f"expected 1000 folders of classes in it, or the list of its images in {listing}"
            )
            cause = " ".join(str(error).split()).rstrip(".")
            raise ValueError(f"{folder} cannot be read as ImageNet ({cause}): {expected}") from error
        if not listed.data_list:
            raise ValueError(f"{Path(self.data_root, 'meta', self.split)}.txt lists no image")
        refuse_twice((info["img_path"] for info in listed.data_list), f"{folder}: image")
        self._metainfo.setdefault("classes", listed.metainfo["classes"])
        return [{"img_path": info["img_path"], "gt_label": info["gt_label"]} for info in listed.data_list]


def walk_folders(root: str | Path) -> Iterator[tuple[Path, list[Path]]]:
    """All folders under a folder, itself first, with the image files in each, sorted by path.

    Links to folders are followed, except back to a folder above; hidden files and folders are left out.

    Yields:
        Folder and its image files.

    Raises:
        OSError: ``root`` is missing, or a folder cannot be listed: what it holds could not be counted.
    """
    root = require_folder(root, "images")
    for place, folders, files in os.walk(root, onerror=_refuse, followlinks=True):
        here = Path(place)
        above = {here.resolve(), *here.resolve().parents}
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not ((here / name).is_symlink() and (here / name).resolve() in above)
        )
        yield here, sorted_entries(here / name for name in files if name.lower().endswith(IMAGE_SUFFIXES))


def _refuse(error: OSError) -> None:
    raise error
