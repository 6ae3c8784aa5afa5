"""Many masks in one image, each in a random color of its own, and such an image read back."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import cv2
import numpy as np

from delvm_mm.codecs.base import LabelCodec, check_color, check_image, pick
from delvm_mm.codecs.masks.instance_map import instance_map
from delvm_mm.codecs.masks.palette import NearestColor
from delvm_mm.registry import TASK_UTILS

_LEVELS = (0, 64, 128, 191, 255)
# Every second point of the grid, as on a chess board: twice as many colors as on a coarser grid of the same distance.
COLORS = tuple(
    tuple(_LEVELS[i] for i in point) for point in product(range(len(_LEVELS)), repeat=3) if sum(point) % 2 == 0
)[1:]
"""62 colors with a distance of 89 or more (in RGB) to each other and to black."""


@TASK_UTILS.register_module()
class RandomColorMaskCodec(LabelCodec):
    """Every mask in a random color on black, larger ones first, so that small ones lie on top; as for SA-1B.

    Annotations, any of: an instance map, H x W integers, 0 where there is no mask; masks, N x H x W bool; a list of
    COCO RLE dicts or of SA-1B's annotations; or ``dict(instance_map=H x W, seed=int)``, which :meth:`annotation_of`
    gives. What is not a map becomes one with :func:`~delvm_mm.codecs.masks.instance_map.instance_map`. The prediction
    is ``dict(instance_map=int32 H x W)``, numbered 1..N by area, the largest first.

    Colors come from a palette of well separated ones, shuffled for each image. No color is used twice before all
    are used; from then on a mask gets a random one that no mask beside it has, where there is such a one.

    :meth:`decode` takes each pixel for the nearest color of the palette. Unless that is every pixel's color to the
    point, regions with no interior (no pixel whose eight neighbors have the same color) or fewer than ``min_area``
    pixels are specks, or the mixed colors along a border: their pixels go to the nearest other region. Then all of one
    color is one mask.

    Tolerance: a clean drawing of up to 62 masks comes back as the same segmentation, numbers aside; one of more masks
    too, if what is seen of each is connected (and no mask has all colors beside it). For masks of 64 pixels or more
    in 256 px images like crops of SA-1B, with 30 masks each, the mean IoU of a mask with the best one found is 0.96
    after JPEG of quality 90, 0.95 of quality 75, 0.96 after a blur (sigma 1) and 0.99 after Gaussian noise (sigma 12).
    Masks without interior are lost then.

    Args:
        seed: Colors follow from this and the seed of the annotation, which is the sample's number: the same sample is
            drawn in the same colors. None: :meth:`annotation_of` draws the seed from numpy's global generator, so
            that each augmented copy gets other colors; bulk tokenization seeds that generator for each clip.
        colors: The palette, RGB, each channel 0..255. Colors nearer than 32 to each other or to black are refused.
        min_area: Smallest region that :meth:`decode` keeps, in pixels.
        connected: What :meth:`decode` takes for one mask. True: a connected region. False: all regions of one color.
            None: connected regions if every color of the palette is there, which means that some may have been used
            twice, else all of one color.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import RandomColorMaskCodec
        >>> codec = RandomColorMaskCodec(seed=0)
        >>> image = codec.encode(np.array([[0, 1, 1, 1], [0, 7, 7, 1]]))
        >>> codec.decode(image)["instance_map"].tolist()
        [[0, 1, 1, 1], [0, 2, 2, 1]]
    """

    def __init__(
        self,
        seed: int | None = 0,
        colors: Sequence[tuple[int, int, int]] = COLORS,
        min_area: int = 8,
        connected: bool | None = None,
    ) -> None:
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            raise ValueError(f"seed is {seed!r}, expected None or a whole number, at least 0")
        if not isinstance(min_area, int) or min_area < 1:
            raise ValueError(f"min_area is {min_area!r}, expected a number of pixels, at least 1")
        if not (connected is None or isinstance(connected, bool)):
            raise ValueError(f"connected is {connected!r}, expected True, False or None")
        if not len(colors):
            raise ValueError("colors is empty, expected at least one RGB color")
        self.seed = seed
        self.min_area = min_area
        self.connected = connected
        self.palette = (self.background, *(check_color(color, "colors") for color in colors))
        self._colors = np.array(self.palette, np.uint8)
        self._read = NearestColor(self.palette, min_area)
        self._check_distances()
        self.dataset_meta = dict(classes=("mask",), palette=[list(color) for color in self.palette[1:]])

    def encode(self, annotation: Any) -> np.ndarray:
        """Draw masks.

        Args:
            annotation: masks, in one of the forms that the class names.

        Returns:
            RGB image, uint8, H x W x 3.

        Raises:
            TypeError: if it is none of these forms.
            ValueError: if a mask is damaged, or their sizes differ.
        """
        instances = self._instances(annotation)
        seed = annotation.get("seed") if isinstance(annotation, dict) else None
        if seed is None:
            seed = 0 if self.seed is not None else _random_seed()
        rng = np.random.default_rng([self.seed or 0, int(seed)])
        present = _numbers(instances)
        if not len(present):
            return np.zeros((*instances.shape, 3), np.uint8)
        table = np.zeros(int(present[-1]) + 1, np.intp)
        table[present] = self._choose(rng, instances, present)
        # Four bytes are looked up at once.
        pixels = np.pad(self._colors, ((0, 0), (0, 1))).view(np.uint32)[:, 0][table].take(instances)
        return cv2.cvtColor(pixels.view(np.uint8).reshape(*instances.shape, 4), cv2.COLOR_RGBA2RGB)

    def decode(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Read masks.

        Args:
            image: RGB, uint8, H x W x 3.

        Returns:
            dict of ``instance_map``, int32 H x W: 0 where there is no mask, else 1..N, the largest first.

        Raises:
            TypeError: if the image is not a uint8 array.
            ValueError: if it is not H x W x 3.
        """
        check_image(image, "RandomColorMaskCodec.decode")
        colors = self._read(image)
        connected = self.connected
        if connected is None:
            connected = bool(np.bincount(colors.ravel(), minlength=len(self.palette))[1:].all())
        groups = _regions(colors) if connected else colors
        areas = np.bincount(groups.ravel())
        areas[0] = 0
        order = np.argsort(-areas, kind="stable")[: np.count_nonzero(areas)]
        numbers = np.zeros(len(areas), np.int32)
        numbers[order] = np.arange(1, len(order) + 1)
        return dict(instance_map=numbers[groups])

    def annotation_of(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pick the masks out of a results dict.

        Returns:
            dict of ``instance_map`` (``results['gt_instance_map']``) and ``seed``, of this sample's colors: the
            sample's number, or, if the codec's own seed is None, one from numpy's global generator.

        Raises:
            ValueError: if one of the fields ``gt_instance_map`` and ``sample_idx`` is missing.
        """
        instances = pick(results, "gt_instance_map", "RandomColorMaskCodec")
        seed = _random_seed() if self.seed is None else int(pick(results, "sample_idx", "RandomColorMaskCodec"))
        return dict(instance_map=instances, seed=seed)

    def to_fields(self, truth: Any, prediction: dict[str, np.ndarray]) -> dict[str, Any]:
        """Lay out truth and prediction as metrics of instances read them.

        Args:
            truth: what :meth:`annotation_of` gave, or another form of annotation.
            prediction: what :meth:`decode` gave.

        Returns:
            ``pred_instance_map`` and ``gt_instance_map``, each a dict with ``data``, int32 H x W; ``pred_instances``
            and ``gt_instances``, dicts of ``masks`` (bool N x H x W, what is seen of each mask), ``bboxes`` (float32 N
            x 4, xyxy, right and lower edge exclusive) and ``labels`` (int64, zeros); the predicted ones with ``scores``
            (float32, ones). The prediction is one of :meth:`decode`, so its masks do not overlap.

        Raises:
            ValueError: if the two differ in size.
        """
        wanted, found = self._instances(truth), self._instances(prediction)
        if wanted.shape != found.shape:
            raise ValueError(
                f"RandomColorMaskCodec: the truth is {wanted.shape}, the prediction {found.shape}; "
                "resize the prediction to the size of the truth"
            )
        predicted = _instance_fields(found)
        return dict(
            pred_instance_map=dict(data=found.astype(np.int32)),
            gt_instance_map=dict(data=wanted.astype(np.int32)),
            pred_instances=predicted | dict(scores=np.ones(len(predicted["labels"]), np.float32)),
            gt_instances=_instance_fields(wanted),
        )

    def _instances(self, annotation: Any) -> np.ndarray:
        """Any form of annotation as an instance map."""
        owner = "RandomColorMaskCodec"
        if isinstance(annotation, dict):
            annotation = pick(annotation, "instance_map", owner)
        if isinstance(annotation, list | tuple):
            return instance_map(annotation)
        if not isinstance(annotation, np.ndarray) or annotation.dtype.kind not in "bui":
            given = annotation.dtype if isinstance(annotation, np.ndarray) else type(annotation).__name__
            raise TypeError(f"{owner}: got {given}, expected a numpy map of integers, bool masks, or a list of RLE")
        if annotation.ndim == 3 and annotation.dtype == bool:
            return instance_map(annotation)
        if annotation.ndim != 2 or 0 in annotation.shape:
            raise ValueError(f"{owner}: got {annotation.dtype} of shape {annotation.shape}, expected H x W integers")
        if annotation.dtype.kind == "i" and annotation.min() < 0:
            raise ValueError(f"{owner}: the instance map holds {annotation.min()}, expected 0 and numbers of masks")
        if annotation.max() >= 2**20:  # numbers that stand for something else; tables of this size are too large
            numbers, instances = np.unique(annotation, return_inverse=True)
            return instances.reshape(annotation.shape) + int(numbers[0] > 0)
        return annotation.astype(np.int64) if annotation.dtype == np.uint64 else annotation

    def _choose(self, rng: np.random.Generator, instances: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Number in the palette, 1 or more, of the color of each of the masks ``present``."""
        count = len(self.palette) - 1
        shuffled = rng.permutation(count) + 1
        if len(present) <= count:
            return shuffled[: len(present)]
        chosen = np.concatenate([shuffled, np.zeros(len(present) - count, np.intp)])
        beside = _neighbors(instances, present)
        for mask in range(count, len(present)):
            free = np.setdiff1d(shuffled, chosen[beside[mask]])
            chosen[mask] = rng.choice(free if len(free) else shuffled)
        return chosen

    def _check_distances(self) -> None:
        distance, one, other = self._read.closest()
        if distance < 32:
            raise ValueError(
                f"colors {self.palette[one]} and {self.palette[other]} are only {distance:.0f} apart in RGB "
                "(black is the background), expected at least 32: they could not be told apart in a drawing"
            )


def _regions(colors: np.ndarray) -> np.ndarray:
    """Number each connected region of one color; 0, the ground, is no region."""
    from skimage.measure import label as label_regions  # takes a moment, and decoding alone needs it

    return label_regions(colors, background=0, connectivity=1)


def _random_seed() -> int:
    return int(np.random.randint(2**31))


def _numbers(instances: np.ndarray) -> np.ndarray:
    """Numbers of the masks that are seen, ascending, intp."""
    flat = instances.ravel()
    # Where the number changes along the rows: far fewer pixels to sort.
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    numbers = np.unique(np.append(flat[starts], flat[0]))
    return numbers[numbers > 0].astype(np.intp)


def _neighbors(instances: np.ndarray, present: np.ndarray) -> list[np.ndarray]:
    """Of each of the masks ``present``, the positions in ``present`` of those that touch it."""
    flat, count = instances.ravel(), len(present)
    pairs = []
    # The last pixel of a row counts as beside the first of the next: that only makes the choice of colors smaller.
    for step in (1, instances.shape[1]):
        border = np.flatnonzero(flat[step:] != flat[:-step])
        pairs.append(np.stack([flat[border], flat[border + step]]))
    pairs = np.concatenate(pairs, 1)
    one, other = np.searchsorted(present, pairs[:, (pairs > 0).all(0)])
    numbers = np.unique(np.concatenate([one * count + other, other * count + one]))
    return np.split(numbers % count, np.searchsorted(numbers, np.arange(1, count) * count))


def _instance_fields(instances: np.ndarray) -> dict[str, np.ndarray]:
    numbers = _numbers(instances)
    masks = instances == numbers[:, None, None]
    boxes = np.zeros((len(numbers), 4), np.float32)
    for mask, box in zip(masks, boxes, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return dict(masks=masks, bboxes=boxes, labels=np.zeros(len(numbers), np.int64))
