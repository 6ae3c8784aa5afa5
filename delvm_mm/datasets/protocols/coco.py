"""COCO-20i from COCO's own annotations: few-shot episodes."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delvm_mm.datasets.protocols.base import Episode, ProtocolDataset, draw_others, require_files
from delvm_mm.datasets.protocols.pascal import check_folds
from delvm_mm.datasets.readers.base import parse_json
from delvm_mm.datasets.readers.io.image import read_image
from delvm_mm.registry import DATASETS

if TYPE_CHECKING:
    from pycocotools.coco import COCO

__all__ = ["CocoEpisodes"]

NUM_FOLDS = 4
CROWD = 255


@DATASETS.register_module()
class CocoEpisodes(ProtocolDataset):
    """Episodes of COCO's 80 classes, in four folds that hold out twenty each.

    Fold i holds out classes i, i + 4, i + 8, ... of the categories in the order of their ids, the split of Nguyen and
    Todorovic, ICCV 2019, as HSNet (Min et al., ICCV 2021) and others use it. Each of 1000 queries a fold is drawn as
    there: a class, then a query of its images, then its pairs, from one stream seeded for each fold. The lists of
    images that are published with that code are not read (they are pickles): the images of a class are those in which
    the annotations show it, in the order of their file names. So episodes are as many and as balanced, not the same.

    Instances of a class are one mask; crowds of it are not scored, and an image that shows nothing else of it is no
    sample.

    Args:
        data_root: Folder of COCO.
        ann_file: Instances, from ``data_root`` on.
        img_dir: Images, from ``data_root`` on.
        folds: Which folds, in this order.
        queries_per_fold: Episodes of each fold.
        **kwargs: ``codec``, ``size``, ``num_pairs``, ``seed``, ``num_queries`` of :class:`ProtocolDataset`.

    Raises:
        FileNotFoundError: The annotations are missing, or images; the message says how many, and which.
        ValueError: The annotations are none of instances, a class of a fold is in no image, or more pairs are asked
            for than there are.
    """

    def __init__(
        self,
        data_root: str | Path,
        ann_file: str = "annotations/instances_val2014.json",
        img_dir: str = "val2014",
        folds: Sequence[int] = (0, 1, 2, 3),
        queries_per_fold: int = 1000,
        **kwargs: Any,
    ) -> None:
        self.ann_file, self.img_dir = Path(data_root, ann_file), Path(data_root, img_dir)
        self.folds, self.queries_per_fold = check_folds(folds), queries_per_fold
        super().__init__(**kwargs)

    def draw_episodes(self) -> list[Episode]:
        """All episodes, fold by fold."""
        self._coco = self._open()
        self._categories = sorted(self._coco.cats)
        images = sorted(self._coco.imgs.values(), key=lambda image: image["file_name"])
        shown: dict[int, list[dict]] = {category: [] for category in self._categories}
        for image in images:
            of_image = self._coco.imgToAnns.get(image["id"], ())
            for category in {each["category_id"] for each in of_image if not each.get("iscrowd")}:
                shown[category].append(image)
        return [episode for fold in self.folds for episode in self._of_fold(fold, shown)]

    def read(self, entry: dict) -> dict:
        """Image and mask of one class: 1 on its instances, 255 on its crowds, 0 elsewhere."""
        image = read_image(entry["img_path"])
        of_class = [
            each
            for each in self._coco.imgToAnns[entry["img_id"]]
            if each["category_id"] == self._categories[entry["class_id"]]
        ]
        mask = np.zeros(image.shape[:2], np.uint8)
        for crowd in (True, False):
            for each in of_class:
                if bool(each.get("iscrowd")) == crowd:
                    region = self._coco.annToMask(each).astype(bool)
                    if region.shape != mask.shape:
                        raise ValueError(
                            f"{entry['img_path']} has {image.shape[1]}x{image.shape[0]} pixels, where {self.ann_file} "
                            f"says {region.shape[1]}x{region.shape[0]}: use the images as they were published"
                        )
                    mask[region] = CROWD if crowd else 1
        return entry | dict(img=image, gt_seg_map=mask)

    def _of_fold(self, fold: int, shown: dict[int, list[dict]]) -> list[Episode]:
        classes = np.arange(fold, len(self._categories), NUM_FOLDS)
        empty = [self._name(number) for number in classes if not shown[self._categories[number]]]
        if empty:
            raise ValueError(f"{self.ann_file} has no image of {', '.join(empty)}, classes of fold {fold}")
        random = np.random.RandomState(self.seed)
        episodes = []
        for _ in range(min(self.queries_per_fold, self.num_queries or self.queries_per_fold)):
            number = int(random.choice(classes, 1, replace=False)[0])
            images = shown[self._categories[number]]
            query = int(random.choice(len(images), 1, replace=False)[0])
            names = [image["file_name"] for image in images]
            where = f"class {self._name(number)} of {self.ann_file}"
            drawn = draw_others(random, names, names[query], self.num_pairs, where)
            query_entry, *supports = (self._entry(images[position], number, fold) for position in (query, *drawn))
            episodes.append(Episode(query_entry, tuple(supports), drawn))
        used = [entry["img_path"] for episode in episodes for entry in (episode.query, *episode.supports)]
        require_files(used, self.ann_file, "images of this protocol")
        return episodes

    def _name(self, number: int) -> str:
        return str(self._coco.cats[self._categories[number]]["name"])

    def _entry(self, image: dict, number: int, fold: int) -> dict:
        path = str(self.img_dir / image["file_name"])
        return dict(img_path=path, img_id=image["id"], class_id=number, class_name=self._name(number), fold=fold)

    def _open(self) -> "COCO":
        if not self.ann_file.is_file():
            raise FileNotFoundError(f"no annotation file at {self.ann_file}: CocoEpisodes needs COCO's instances")
        from pycocotools.coco import COCO  # takes a moment, and only files of COCO's form need it

        coco = COCO()
        coco.dataset = parse_json(self.ann_file.read_bytes(), str(self.ann_file))
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
                coco.createIndex()
            if not coco.cats or not all("segmentation" in each for each in coco.anns.values()):
                raise KeyError("segmentation")
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.ann_file} is no file of COCO's instances ({type(error).__name__}: {error}): expected lists "
                "'images', 'categories' and 'annotations', which have a 'segmentation'"
            ) from error
        return coco
