"""FSS-1000 by its published lists: few-shot episodes."""

from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.datasets.protocols.base import Episode, ProtocolDataset, draw_others, read_lines, require_files
from delvm_mm.datasets.readers.base import require_folder
from delvm_mm.datasets.readers.io.image import read_image
from delvm_mm.registry import DATASETS

__all__ = ["FSSEpisodes"]

FIRST_CLASS = dict(trn=0, val=520, test=760)
IMAGES_OF_CLASS = 10


@DATASETS.register_module()
class FSSEpisodes(ProtocolDataset):
    """Every image of the classes of a list as a query, with pairs of its class.

    The layout is that of `FSS-1000 <https://github.com/HKUSTCV/FSS-1000>`_, ten images a class::

        data_root/
        └── ab_wheel/    1.jpg, 1.png, ..., 10.jpg, 10.png

    Classes come in the order of their names, images in that of theirs as text (1, 10, 2, ...); pairs are drawn from
    the other nine, one may come twice. With seed 0 these are the draws of HSNet (Min et al., ICCV 2021). A mask is
    foreground from 128 on.

    Args:
        data_root: The folder of the classes.
        list_file: Names of the classes, one in each line, such as ``fss/test.txt``.
        **kwargs: ``codec``, ``size``, ``num_pairs``, ``seed``, ``num_queries`` of :class:`ProtocolDataset`.

    Raises:
        FileNotFoundError: The list is missing, or files of its classes; the message says how many, and which.
        ValueError: An argument is out of range, or more pairs are asked for than there are.
    """

    def __init__(self, data_root: str | Path, list_file: str | Path, **kwargs: Any) -> None:
        self.data_root, self.list_file = Path(data_root), Path(list_file)
        super().__init__(**kwargs)

    def draw_episodes(self) -> list[Episode]:
        """All episodes, class by class."""
        root = require_folder(self.data_root, "the classes of FSS-1000")
        classes = sorted(read_lines(self.list_file, "the name of a class"))
        numbers = [str(number) for number in range(1, IMAGES_OF_CLASS + 1)]
        for suffix, what in ((".jpg", "images (ten of each class)"), (".png", "masks (ten of each class)")):
            files = [root / name / f"{number}{suffix}" for name in classes for number in numbers]
            require_files(files, self.list_file, what)
        random = np.random.RandomState(self.seed)
        first = FIRST_CLASS.get(self.list_file.stem, 0)
        episodes: list[Episode] = []
        for class_id, name in enumerate(classes, first):
            for query in sorted(numbers, key=lambda number: f"{number}.jpg"):
                if self.num_queries is not None and len(episodes) == self.num_queries:
                    return episodes
                drawn = draw_others(random, numbers, query, self.num_pairs, f"class {name} of {self.list_file}")
                entries = [self._entry(name, class_id, number) for number in (query, *(numbers[i] for i in drawn))]
                episodes.append(Episode(entries[0], tuple(entries[1:]), drawn))
        return episodes

    def read(self, entry: dict) -> dict:
        """Image and mask."""
        image, mask = read_image(entry["img_path"]), read_image(entry["seg_map_path"])
        if image.shape != mask.shape:
            raise ValueError(
                f"{entry['seg_map_path']} has {mask.shape[1]}x{mask.shape[0]} pixels, its image {entry['img_path']} "
                f"{image.shape[1]}x{image.shape[0]}: use both as they were published"
            )
        return entry | dict(img=image, gt_seg_map=(mask.mean(2) >= 128).astype(np.uint8))

    def _entry(self, name: str, class_id: int, number: str) -> dict:
        place = self.data_root / name / number
        return dict(
            img_path=f"{place}.jpg",
            seg_map_path=f"{place}.png",
            img_id=f"{name}/{number}",
            class_id=class_id,
            class_name=name,
        )
