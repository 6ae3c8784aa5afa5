"""Colorization on ImageNet's validation set, as Bar et al. score it."""

from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.datasets.protocols.base import Episode, ProtocolDataset
from delvm_mm.datasets.readers.image_folder import walk_folders
from delvm_mm.datasets.readers.io.image import read_image
from delvm_mm.datasets.transforms.degrade import ToGray
from delvm_mm.datasets.transforms.geometry import crop
from delvm_mm.registry import DATASETS

__all__ = ["ColorizationEpisodes"]


@DATASETS.register_module()
class ColorizationEpisodes(ProtocolDataset):
    """The middle of images of ImageNet, gray, with pairs of gray and color.

    Queries are 1000 images drawn without replacement from all but the last, supports are drawn for each query from the
    first 999 (of the first twenty classes, and the query may be among them), from one stream of seed 5: the draws of
    Bar et al., "Visual Prompting via Image Inpainting", NeurIPS 2022. What is cut out of the middle, without resizing
    before, is ``crop_size`` a side; a smaller image has black around it.

    Images are listed as ``torchvision.datasets.ImageFolder`` does: by the folder of their class, then by name. All in
    one folder they are in another order, and refused.

    Args:
        data_root: Folder of the classes' folders, such as ``imagenet/val``.
        crop_size: Side of what is cut out, in pixels.
        num_drawn: How many queries are drawn; supports are of the first ``num_drawn - 1`` images.
        **kwargs: ``codec``, ``size``, ``num_pairs``, ``num_queries`` and ``seed`` (5 by default) of
            :class:`ProtocolDataset`.

    Raises:
        FileNotFoundError: The folder is missing.
        ValueError: An argument is out of range, images are not in folders of classes, or there are too few.
    """

    METAINFO: dict = dict(task="colorization")

    def __init__(
        self, data_root: str | Path, crop_size: int = 111, num_drawn: int = 1000, seed: int = 5, **kwargs: Any
    ) -> None:
        for name, value, least in (("crop_size", crop_size, 1), ("num_drawn", num_drawn, 2)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}, expected a whole number, at least {least}")
        self.data_root, self.crop_size, self.num_drawn = Path(data_root), crop_size, num_drawn
        self.to_gray = ToGray()
        super().__init__(seed=seed, **kwargs)

    def draw_episodes(self) -> list[Episode]:
        """All episodes."""
        images = []
        for folder, paths in walk_folders(self.data_root):
            if paths and folder == self.data_root:
                raise ValueError(
                    f"{paths[0]} lies in no folder of its class, and the draws go by the order of classes: sort the "
                    "images into folders such as n01440764, as torchvision's ImageFolder reads them"
                )
            images += paths
        images.sort(key=lambda path: (path.relative_to(self.data_root).parts[0], path.as_posix()))
        if len(images) <= self.num_drawn:
            raise ValueError(
                f"{self.data_root} holds {len(images)} images, of which {self.num_drawn} queries (num_drawn) are "
                f"drawn, and never the last: expected {self.num_drawn + 1} or more; give the whole validation set"
            )
        random = np.random.RandomState(self.seed)
        queries = random.choice(np.arange(len(images) - 1), size=self.num_drawn, replace=False)
        episodes = []
        for query in queries[: self.num_queries]:
            drawn = tuple(int(random.choice(np.arange(self.num_drawn - 1))) for _ in range(self.num_pairs))
            query_entry, *supports = (dict(img_path=str(images[position])) for position in (query, *drawn))
            episodes.append(Episode(query_entry, tuple(supports), drawn))
        return episodes

    def read(self, entry: dict) -> dict:
        """The middle of the image, gray as ``img`` and in color as ``gt_img``."""
        results = entry | dict(img=read_image(entry["img_path"]))
        height, width = results["img"].shape[:2]
        # Rounded as torchvision does, and where the image is smaller it is in the middle too.
        top, left = (_offset(side, self.crop_size) for side in (height, width))
        crop(results, top, left, self.crop_size, self.crop_size)
        return self.to_gray(results)


def _offset(side: int, size: int) -> int:
    return round((side - size) / 2) if side >= size else -((size - side) // 2)
