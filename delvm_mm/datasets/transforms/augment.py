"""Random transforms of images together with what is annotated on them; to be put before ``DrawLabel``.

A drawn label that is flipped or rotated afterwards says the wrong thing (a flipped skeleton has the colors of left and
right limbs exchanged); here the annotation is moved, by ``geometry.py``, and drawn as it then is.

mmcv's and mmpretrain's transforms of these names move ``img`` and the fields of detection, not the second image of a
restoration pair, the frames of a clip, or instance maps, and never exchange left and right; torchvision's draw from
torch. So sampling is theirs, moving is ``geometry.py``'s, and colors are torchvision's.

What is random comes from numpy's global generator alone (``np.random.seed`` makes it repeatable), which bulk
tokenization seeds for each clip.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from delvm_mm.datasets.transforms.base import BaseTransform
from delvm_mm.datasets.transforms.formatting import sample_name
from delvm_mm.datasets.transforms.geometry import (
    IMAGES,
    PEOPLE,
    crop,
    flip,
    height_and_width,
    image_shape,
    inside,
    resize,
    shape_to_crop,
    warp,
)
from delvm_mm.registry import TRANSFORMS

__all__ = [
    "ColorJitter",
    "CropPerson",
    "RandomCrop",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "SixCrop",
]

ATTEMPTS = 10
"""How often ``RandomResizedCrop`` draws a rectangle before it takes the fallback, as torchvision's."""

# Of SixCrop: how much of the free space lies above and to the left.
_POSITIONS = dict(
    top_left=(0, 0),
    top_right=(0, 1),
    bottom_left=(1, 0),
    bottom_right=(1, 1),
    center=(0.5, 0.5),
    top=(0, 0.5),
    bottom=(1, 0.5),
    left=(0.5, 0),
    right=(0.5, 1),
)
_SIDE = dict(wide=_POSITIONS["bottom"], tall=_POSITIONS["right"])


@TRANSFORMS.register_module()
class RandomCrop(BaseTransform):
    """Cut out a rectangle at a random place. Adds ``crop_offset`` (x, y).

    Args:
        size: Side in pixels, or (height, width). Smaller images are refused.
    """

    def __init__(self, size: int | tuple[int, int] = 256) -> None:
        self.height, self.width = height_and_width(size, "RandomCrop")

    def transform(self, results: dict) -> dict:
        """Crop every field that is there."""
        height, width = shape_to_crop(results, self.height, self.width, "RandomCrop")
        top, left = np.random.randint(height - self.height + 1), np.random.randint(width - self.width + 1)
        crop(results, top, left, self.height, self.width)
        results["crop_offset"] = (left, top)
        return results


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Cut out a rectangle of random size, shape and place and resize it (Szegedy et al., arXiv 1409.4842).

    Rectangles are drawn as by ``torchvision.transforms.RandomResizedCrop``. Where people are labeled, one that loses
    all of them is drawn again; after ten attempts the whole image is taken, squeezed. Where nobody is labeled and
    no rectangle fits, it is the largest one in the center.

    Args:
        size: Side of the result in pixels, or (height, width).
        scale: Smallest and largest part of the image's area, in (0, 1].
        ratio: Smallest and largest width / height of the rectangle.
        keep_keypoints: This part of the visible keypoints of at least one person must stay, in [0, 1]. With 0, people
            are not looked at.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 256,
        scale: tuple[float, float] = (0.5, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        keep_keypoints: float = 0.5,
    ) -> None:
        self.height, self.width = height_and_width(size, "RandomResizedCrop")
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"RandomResizedCrop: scale is {scale}, expected (smallest, largest) part in (0, 1]")
        if not 0 < ratio[0] <= ratio[1] < np.inf:
            raise ValueError(f"RandomResizedCrop: ratio is {ratio}, expected (smallest, largest) width / height")
        if not 0 <= keep_keypoints <= 1:
            raise ValueError(f"RandomResizedCrop: keep_keypoints is {keep_keypoints}, expected a part in [0, 1]")
        self.scale = scale
        self.ratio = ratio
        self.keep_keypoints = keep_keypoints

    def transform(self, results: dict) -> dict:
        """Crop and resize every field that is there."""
        shape = image_shape(results, "RandomResizedCrop")
        # Cropped first: what is cut off need not be resized.
        crop(results, *self._rectangle(shape, _visible_people(results, shape) if self.keep_keypoints else []))
        resize(results, self.height, self.width)
        return results

    def _rectangle(self, shape: tuple[int, int], people: Sequence[np.ndarray]) -> tuple[int, int, int, int]:
        """Top, left, height and width."""
        for _ in range(ATTEMPTS):
            area = shape[0] * shape[1] * np.random.uniform(*self.scale)
            ratio = np.exp(np.random.uniform(*np.log(self.ratio)))
            height, width = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
            if not (0 < height <= shape[0] and 0 < width <= shape[1]):
                continue
            top, left = np.random.randint(shape[0] - height + 1), np.random.randint(shape[1] - width + 1)
            kept = [inside(points - (left, top), (height, width)).mean() for points in people]
            if not kept or max(kept) >= self.keep_keypoints:
                return top, left, height, width
        if people:
            return 0, 0, *shape
        height = min(shape[0], max(1, round(shape[1] / self.ratio[0])))
        width = min(shape[1], max(1, round(shape[0] * self.ratio[1])))
        return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Mirror with a given probability.

    A mirrored person is one with left and right exchanged, and that does not depend on which way the mirror stands: a
    person flipped vertically is the one flipped horizontally, turned by 180 degrees. So in both directions left and
    right keypoints are exchanged (COCO's pairs); 'diagonal', both at once, is a turn and exchanges nothing.

    Args:
        prob: Probability in [0, 1].
        direction: 'horizontal', 'vertical', 'diagonal', or a list of these, of which one is drawn. Adds
            ``flip_direction``, the one that was done, or None.
    """

    DIRECTIONS = ("horizontal", "vertical", "diagonal")

    def __init__(self, prob: float = 0.5, direction: str | Sequence[str] = "horizontal") -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"RandomFlip: prob is {prob}, expected a probability in [0, 1]")
        self.prob = prob
        self.directions = (direction,) if isinstance(direction, str) else tuple(direction)
        if not self.directions or not set(self.directions) <= set(self.DIRECTIONS):
            raise ValueError(f"RandomFlip: direction is {direction!r}, expected some of {self.DIRECTIONS}")

    def transform(self, results: dict) -> dict:
        """Mirror every field that is there, or none."""
        image_shape(results, "RandomFlip")
        chosen = None
        if np.random.random() < self.prob:
            chosen = self.directions[np.random.randint(len(self.directions))]
            flip(results, chosen != "vertical", chosen != "horizontal")
        results["flip_direction"] = chosen
        return results


@TRANSFORMS.register_module()
class RandomRotation(BaseTransform):
    """Rotate around the center; the size of the image stays and what comes from outside is black, 0 in maps.

    ``bbox`` becomes the upright box around the rotated one, which is larger. Adds ``rotation`` in degrees.

    Args:
        max_angle: Angles are drawn from -``max_angle`` to ``max_angle``, in degrees, counter-clockwise.
    """

    def __init__(self, max_angle: float = 15) -> None:
        if not 0 <= max_angle <= 180:
            raise ValueError(f"RandomRotation: max_angle is {max_angle}, expected degrees in [0, 180]")
        self.max_angle = max_angle

    def transform(self, results: dict) -> dict:
        """Rotate every field that is there."""
        height, width = image_shape(results, "RandomRotation")
        angle = np.random.uniform(-self.max_angle, self.max_angle)
        warp(results, cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1))
        results["rotation"] = angle
        return results


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """Change brightness, contrast, saturation and hue at random, in random order, as ``torchvision``'s.

    All images of a sample (``img``, ``gt_img``, ``frames``) go through the same map of colors to colors, also where
    it depends on their mean (contrast): a restoration pair stays a pair. Hue costs far more than the rest and time goes
    with the number of pixels: put it after the resizing.

    Args:
        brightness: Factor, drawn from 1 - x to 1 + x (not below 0), or from a pair (smallest, largest).
        contrast: Factor, in the same way.
        saturation: Factor, in the same way.
        hue: Shift in turns of the color circle, drawn from -x to x, 0 to 0.5, or from a pair in [-0.5, 0.5].
    """

    def __init__(
        self,
        brightness: float | tuple[float, float] = 0.0,
        contrast: float | tuple[float, float] = 0.0,
        saturation: float | tuple[float, float] = 0.0,
        hue: float | tuple[float, float] = 0.0,
    ) -> None:
        # Here, for it takes a second that users of the other transforms need not wait.
        from torchvision.transforms.functional import (
            adjust_brightness,
            adjust_contrast,
            adjust_hue,
            adjust_saturation,
        )

        factors = (
            (adjust_brightness, _limits("brightness", brightness, 1, (0, np.inf))),
            (adjust_contrast, _limits("contrast", contrast, 1, (0, np.inf))),
            (adjust_saturation, _limits("saturation", saturation, 1, (0, np.inf))),
        )
        self.steps = [(adjust, limits) for adjust, limits in factors if limits != (1, 1)]
        shifts = _limits("hue", hue, 0, (-0.5, 0.5))
        if shifts != (0, 0):
            self.steps.append((adjust_hue, shifts))

    def transform(self, results: dict) -> dict:
        """Change all images."""
        width = image_shape(results, "ColorJitter")[1]
        keys = [key for key in IMAGES if results.get(key) is not None]
        if not keys or not self.steps:
            return results
        # One image, all below each other: they share one mean and one pass.
        rows = [results[key].reshape(-1, width, 3) for key in keys]
        image = Image.fromarray(rows[0] if len(rows) == 1 else np.concatenate(rows))
        for step in np.random.permutation(len(self.steps)):
            adjust, limits = self.steps[step]
            image = adjust(image, np.random.uniform(*limits))
        parts = np.split(np.array(image), np.cumsum([len(part) for part in rows])[:-1])
        for key, part in zip(keys, parts, strict=True):
            results[key] = part.reshape(results[key].shape)
        return results


@TRANSFORMS.register_module()
class SixCrop(BaseTransform):
    """Cut a large image into six squares: the corners, the center, and the middle of a long side.

    Guo et al. (arXiv 2402.04841) cut SA-1B, whose images have a short side of 1500, so: "corner/center/side six-crop"
    of 800; which side is not published. It is the lower one of wide images and the right one of tall ones: the middle
    of a short side is almost within the two corners, and the sky of wide images is above.

    The number of the crop is the sample's ``view``, so that a reader with ``num_views=6`` gives each image six times;
    it counts round where there are more views than positions, and is drawn where the sample has none. Images smaller
    than ``size`` are refused, as enlarged ones have no detail to cut up: skip them, or put ``ResizeShortSide`` before.
    Adds ``crop_offset`` (x, y).

    Args:
        size: Side in pixels.
        positions: In the order of the views, some of 'top_left', 'top_right', 'bottom_left', 'bottom_right',
            'center', 'side' as above, 'top', 'bottom', 'left' and 'right'.
        choose: 'view' as above, or 'random' to draw one of the positions whatever the view is.
    """

    def __init__(
        self,
        size: int = 800,
        positions: Sequence[str] = ("top_left", "top_right", "bottom_left", "bottom_right", "center", "side"),
        choose: str = "view",
    ) -> None:
        self.size = height_and_width(size, "SixCrop")[0]
        self.positions = tuple(positions)
        if not self.positions or not set(self.positions) <= {*_POSITIONS, "side"}:
            raise ValueError(f"SixCrop: positions are {positions!r}, expected some of side, {', '.join(_POSITIONS)}")
        if choose not in ("view", "random"):
            raise ValueError(f"SixCrop: choose is {choose!r}, expected 'view' or 'random'")
        self.choose = choose

    def transform(self, results: dict) -> dict:
        """Crop every field that is there."""
        height, width = shape_to_crop(results, self.size, self.size, "SixCrop")
        if self.choose == "random" or "view" not in results:
            number = np.random.randint(len(self.positions))
        else:
            number = results["view"] % len(self.positions)
        side = _SIDE["wide" if width >= height else "tall"]
        above, before = _POSITIONS.get(self.positions[number], side)
        top, left = round((height - self.size) * above), round((width - self.size) * before)
        crop(results, top, left, self.size, self.size)
        results["crop_offset"] = (left, top)
        return results


@TRANSFORMS.register_module()
class CropPerson(BaseTransform):
    """Cut out the square around one person, black where it reaches over the image; the label is this person's alone.

    The person is the one with the largest box, as far as it lies in the image; its entries in ``keypoints``,
    ``keypoints_visible``, ``bbox``, ``area`` and ``head_size`` stay, with N = 1. Others may be seen, unlabeled. Adds
    ``crop_offset`` (x, y).

    Args:
        padding: Side of the square as a multiple of the longer side of that box, above 0.
    """

    def __init__(self, padding: float = 1.25) -> None:
        if not 0 < padding < np.inf:
            raise ValueError(f"CropPerson: padding is {padding}, expected a factor above 0, e.g. 1.25")
        self.padding = padding

    def transform(self, results: dict) -> dict:
        """Crop every field that is there.

        Returns:
            ``results``, changed.

        Raises:
            ValueError: The sample has no box in the image, or not one entry for each person.
        """
        height, width = image_shape(results, "CropPerson")
        boxes = np.asarray(results["bbox"] if results.get("bbox") is not None else [], np.float64).reshape(-1, 4)
        boxes = np.clip(boxes, 0, (width, height, width, height))
        sides = boxes[:, 2:] - boxes[:, :2]
        areas = np.where((sides > 0).all(1), sides.prod(1), 0)
        if not areas.any():
            raise ValueError(
                f"CropPerson: {sample_name(results)} has {len(boxes)} boxes ('bbox', xyxy), none of them in its "
                f"image of {height}x{width} (height x width): leave samples without people out"
            )
        person = int(areas.argmax())
        for key in PEOPLE:
            if results.get(key) is None:
                continue
            values = np.atleast_1d(results[key])
            if len(values) != len(boxes):
                raise ValueError(
                    f"CropPerson: {sample_name(results)} has {len(values)} entries in {key!r} for {len(boxes)} boxes, "
                    "expected one for each person"
                )
            results[key] = values[person : person + 1]
        side = max(1, round(self.padding * sides[person].max()))
        left, top = (round(middle - side / 2) for middle in (boxes[person, :2] + boxes[person, 2:]) / 2)
        crop(results, top, left, side, side)
        results["crop_offset"] = (left, top)
        return results


def _visible_people(results: dict, shape: tuple[int, int]) -> list[np.ndarray]:
    """Visible keypoints in the image (k x 2, k > 0) of each person who has any."""
    if results.get("keypoints") is None:
        return []
    people = np.asarray(results["keypoints"])
    visible = inside(people, shape)
    if results.get("keypoints_visible") is not None:
        visible &= np.asarray(results["keypoints_visible"]).reshape(visible.shape) > 0
    return [points[seen] for points, seen in zip(people, visible, strict=True) if seen.any()]


def _limits(name: str, value: float | Sequence[float], neutral: float, bounds: tuple[float, float]) -> tuple:
    """Smallest and largest factor or shift of ``ColorJitter``."""
    low, high = value if isinstance(value, Sequence) else (max(bounds[0], neutral - value), neutral + value)
    if not bounds[0] <= low <= high <= bounds[1] or high == np.inf:
        raise ValueError(
            f"ColorJitter: {name} is {value!r}, expected a number of at least 0 or a pair (smallest, largest) within "
            f"{bounds[0]} to {bounds[1]}"
        )
    return low, high
