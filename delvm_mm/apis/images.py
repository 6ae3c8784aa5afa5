"""What a user gives as images (files, folders, arrays, PIL), brought to the size that a model reads."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from delvm_mm.codecs.base import check_image
from delvm_mm.codecs.mapping import map_image_back
from delvm_mm.datasets import read_image
from delvm_mm.datasets.readers.base import IMAGE_SUFFIXES, list_images
from delvm_mm.datasets.readers.frame_folders import natural_key
from delvm_mm.datasets.readers.io.files import one_form
from delvm_mm.datasets.readers.io.image import MAX_PIXELS
from delvm_mm.datasets.transforms import CenterCrop, Letterbox, ResizeShortSide
from delvm_mm.datasets.transforms.geometry import crop

__all__ = ["ImageReader", "ImageSource", "ModelImage", "list_sources", "read_prompt_folder"]

ImageSource = str | os.PathLike | np.ndarray | Image.Image
MAX_PROPORTION = 100
"""Of the long side to the short one. Resized by the short side, a longer strip would take gigabytes."""

IMAGE_SUFFIX, LABEL_SUFFIX = "_img", "_label"
KINDS = {IMAGE_SUFFIX: "image", LABEL_SUFFIX: "label"}

MAX_CLASS = 31
"""A gray label whose values go no further is a map of classes: as an image it is black."""
IGNORED = 255


@dataclass(frozen=True)
class ModelImage:
    """An image as the model reads it, and where in the user's image it was.

    Attributes:
        pixels: uint8, S x S x 3, RGB: short side resized to S and center cut out, or all of it and black around.
        name: For messages and output files, without suffix.
        path: The file it was read from, None for arrays.
        original_size: Width and height of the user's image in pixels.
        scale: Pixels here for one pixel there, (x, y).
        offset: Where the cut begins in the resized image, (x, y) in its pixels; negative where it was padded.
        region: The part of the user's image that was to be looked at; all of it unless given.
    """

    pixels: np.ndarray
    name: str
    path: str | None
    original_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]
    region: tuple[float, float, float, float] | None = None

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The part of the user's image that is seen: x1, y1, x2, y2 in its pixels, where 0 and W, H are edges."""
        size = self.pixels.shape[1::-1]
        corners = [(self.offset[axis] + end * size[axis]) / self.scale[axis] for end in (0, 1) for axis in (0, 1)]
        x1, y1, x2, y2 = self.region or (0, 0, *self.original_size)
        return tuple(np.clip(corners, (x1, y1, x1, y1), (x2, y2, x2, y2)).tolist())

    @property
    def affine(self) -> np.ndarray:
        """2 x 3, takes (x, y, 1) of the user's image to this one."""
        scale, offset = np.array(self.scale), np.array(self.offset)
        return np.column_stack([np.diag(scale), (scale - 1) / 2 - offset])

    def image_to_original(self, image: np.ndarray) -> np.ndarray:
        """An image (uint8, S x S x 3) or map (S x S) at the size of the user's image; 0 where that was not seen."""
        width, height = self.original_size
        mapped = map_image_back(image, self.affine, (height, width))
        x1, y1, x2, y2 = self.box
        columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
        mapped[:, (columns < x1) | (columns >= x2)] = 0
        mapped[(rows < y1) | (rows >= y2)] = 0
        return mapped

    def to_original(self, points: np.ndarray) -> np.ndarray:
        """Points (... x 2, x and y, pixel centers are whole numbers) of this image in the user's image."""
        return (np.asarray(points, np.float64) + self.offset + 0.5) / self.scale - 0.5

    def crop(self) -> dict[str, Any]:
        """How to map back: plain numbers under ``original_size``, ``scale``, ``offset`` and ``box``, see the class."""
        return dict(
            original_size=list(self.original_size),
            scale=list(self.scale),
            offset=list(self.offset),
            box=[round(side, 3) for side in self.box],
        )


class ImageReader:
    """Reads one image of a user and brings it to a model's size: short side resized, center cut out.

    Args:
        size: Side of the square in pixels.
        max_pixels: Files with more pixels are refused by their header.
    """

    def __init__(self, size: int, max_pixels: int = MAX_PIXELS) -> None:
        self.size = size
        self.max_pixels = max_pixels
        self._steps = dict(crop=(ResizeShortSide(size), CenterCrop(size)), pad=(Letterbox(size),))

    def __call__(
        self, source: ImageSource, name: str = "image", fit: str = "crop", bbox: Sequence[float] | None = None
    ) -> ModelImage:
        """Read one image.

        Args:
            source: A path, an RGB array (uint8, H x W x 3; H x W is gray) or a PIL image.
            name: What to call an array.
            fit: 'crop' or 'pad', see :class:`AnswerOptions`.
            bbox: The part to look at, x1, y1, x2, y2 in its pixels; rounded outwards to whole ones.

        Returns:
            The image at the model's size S x S, and where it was cut out.

        Raises:
            FileNotFoundError: There is no such file.
            TypeError: It is none of these.
            ValueError: The file is damaged or no image, the array has another shape, or the box is not in the image.
        """
        path = None
        if isinstance(source, str | os.PathLike):
            path = os.fspath(source)
            name = Path(path).stem
            pixels = read_image(path, self.max_pixels)
        elif isinstance(source, Image.Image):
            pixels = _pixels_of(source, name)
        elif isinstance(source, np.ndarray):
            gray = source.ndim == 2 and source.dtype == np.uint8
            pixels = check_image(np.repeat(source[..., None], 3, 2) if gray else source, name)
        else:
            raise TypeError(
                f"{name} is a {type(source).__name__}; expected a path, an RGB array (uint8, H x W x 3) or a PIL image"
            )
        original_size = pixels.shape[1::-1]
        results = dict(img=pixels, img_path=path or name)
        region = None
        if bbox is not None:
            x1, y1, x2, y2 = region = _whole_box(bbox, original_size, path or name)
            crop(results, y1, x1, y2 - y1, x2 - x1)
        height, width = results["img"].shape[:2]
        if fit == "crop" and max(height, width) > MAX_PROPORTION * min(height, width):
            raise ValueError(
                f"{path or name} is {width}x{height}: an image whose long side is more than {MAX_PROPORTION} times "
                "its short side would lose nearly everything to the center cut; cut it yourself, or use fit='pad'"
            )
        for step in self._steps[fit]:
            results = step(results)
        scale = results["affine"].diagonal()
        offset = ((scale - 1) / 2 - results["affine"][:, 2]).round(6).tolist()
        return ModelImage(
            pixels=np.ascontiguousarray(results["img"]),
            name=name,
            path=path,
            original_size=original_size,
            scale=tuple(scale.tolist()),
            offset=tuple(int(side) if side.is_integer() else side for side in offset),
            region=region,
        )

    def pair(
        self, image: ImageSource, label: ImageSource, name: str, fit: str = "crop"
    ) -> tuple[ModelImage, ModelImage]:
        """Read an image and its annotation, which have to be of one shape.

        Returns:
            Image and annotation, at the model's size.

        Raises:
            ValueError: Their proportions differ, so that the same cut would show different parts, or the label is no
                drawing: the values of a mask or trimap, which are black as an image.
        """
        _check_drawn(label, name)
        pair = self(image, f"image of {name}", fit), self(label, f"label of {name}", fit)
        (width, height), (label_width, label_height) = (part.original_size for part in pair)
        # A pixel at the model's size is borne: labels are sometimes stored smaller than their images.
        side = min if fit == "crop" else max
        resized = (np.array([width, height]) * self.size / side(width, height)).round()
        resized_label = (np.array([label_width, label_height]) * self.size / side(label_width, label_height)).round()
        if np.abs(resized - resized_label).max() > 1:
            raise ValueError(
                f"{name}: the image ({pair[0].path or pair[0].name}) is {width}x{height}, its label "
                f"({pair[1].path or pair[1].name}) {label_width}x{label_height}; both have to show the same part, so "
                "expected the same proportions"
            )
        return pair


def list_sources(source: ImageSource | Iterable[ImageSource], what: str = "query") -> list[ImageSource]:
    """An image, several, or a folder of image files as a list; folders in the order of the numbers in their names.

    Args:
        source: A path, an array, a PIL image, a folder, or any number of these in a sequence.
        what: What it is, for messages.

    Returns:
        What was given, one entry an image.

    Raises:
        TypeError: It is none of these.
        FileNotFoundError: A folder or file does not exist.
        ValueError: There is no image.
    """
    if isinstance(source, str | os.PathLike):
        if not Path(source).is_dir():
            return [source]
        return sorted(list_images(Path(source)), key=lambda path: natural_key(path.name))
    if isinstance(source, Image.Image) or (isinstance(source, np.ndarray) and source.ndim <= 3):
        return [source]
    if isinstance(source, dict | bytes) or not isinstance(source, Iterable):
        raise TypeError(f"{what} is a {type(source).__name__}; expected an image, a list of images or a folder")
    sources = []
    for one in source:
        sources += list_sources(one, what) if isinstance(one, str | os.PathLike) else [one]
    if not sources:
        raise ValueError(f"{what} is empty: expected at least one image")
    return sources


def read_prompt_folder(folder: str | os.PathLike) -> list[tuple[Path, Path]]:
    """Pairs of a prompt in a folder: ``<name>_img.*`` and ``<name>_label.*``, sorted by name.

    Returns:
        Paths of (image, label).

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no pair, or half of one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of prompt pairs at {folder}")
    halves: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        for suffix in (IMAGE_SUFFIX, LABEL_SUFFIX):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.stem.endswith(suffix) and not path.name.startswith("."):
                pair = halves.setdefault(one_form(path.stem.removesuffix(suffix)), {})
                if suffix in pair:
                    raise ValueError(f"{pair[suffix]} and {path} are both the {KINDS[suffix]} of one pair: keep one")
                pair[suffix] = path
    expected = "000_img.png with 000_label.png, 001_img.png with 001_label.png, ..."
    if not halves:
        raise ValueError(f"{folder} holds no prompt pair; expected images in pairs, named like {expected}")
    for found in halves.values():
        if len(found) == 1:
            (suffix, path), missing = next(iter(found.items())), KINDS[({*KINDS} - {*found}).pop()]
            raise ValueError(f"{path} has no {missing} beside it; expected pairs named like {expected}")
    return [(found[IMAGE_SUFFIX], found[LABEL_SUFFIX]) for found in halves.values()]


def check_pairs(prompt: Any) -> Sequence[tuple[ImageSource, ImageSource]]:
    """Check that a prompt is a sequence of (image, label); a folder becomes one.

    Returns:
        The pairs.

    Raises:
        TypeError: It is something else.
        ValueError: It is empty.
    """
    if isinstance(prompt, str | os.PathLike):
        return read_prompt_folder(prompt)
    expected = "expected a list of (image, label) pairs, or a folder of them"
    if not isinstance(prompt, Sequence):
        raise TypeError(f"prompt is a {type(prompt).__name__}; {expected}")
    for number, pair in enumerate(prompt, start=1):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            count = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
            raise TypeError(f"pair {number} of the prompt is a {type(pair).__name__}{count}; {expected}")
    if not prompt:
        raise ValueError(f"prompt is empty; {expected}")
    return prompt


def _whole_box(bbox: Sequence[float], size: tuple[int, int], name: str) -> tuple[int, int, int, int]:
    """A box in an image of ``size`` (W, H), rounded outwards.

    Returns:
        x1, y1, x2, y2, whole pixels inside the image.

    Raises:
        ValueError: It is none, or nothing of it is in the image.
    """
    given = np.asarray(bbox)
    if given.shape == (4,) and given.dtype.kind in "iuf" and np.isfinite(given).all():
        low = np.clip(np.floor(given[:2]), 0, size).astype(int)
        high = np.clip(np.ceil(given[2:]), 0, size).astype(int)
        if (low < high).all():
            return (*low.tolist(), *high.tolist())
    raise ValueError(
        f"bbox of {name} is {bbox!r}, expected x1, y1, x2, y2 in its pixels, of which there are {size[0]}x{size[1]}, "
        "with x1 < x2 and y1 < y2"
    )


def _check_drawn(label: ImageSource, name: str) -> None:
    """Check that a label is an image to look at, and not numbers of classes.

    Raises:
        ValueError: It is gray with values up to ``MAX_CLASS``, and 255 perhaps, as masks of 0 and 1 and trimaps are.
    """
    if isinstance(label, str | os.PathLike):
        try:
            values = read_image(label)
        except (OSError, ValueError):
            return  # reading it says why
        name = f"{name} ({os.fspath(label)})"
    elif isinstance(label, Image.Image):
        values = _pixels_of(label, name)
    else:
        values = label
    is_array = isinstance(values, np.ndarray) and values.dtype.kind in "bui" and values.ndim in (2, 3)
    if not is_array or (values.ndim == 3 and (values != values[..., :1]).any()):
        return
    found = np.unique(values)
    below = found[found != IGNORED]
    if found.dtype == bool or (len(below) and 0 < below.max() <= MAX_CLASS):
        shown = ", ".join(str(value) for value in found[:6]) + (", ..." if len(found) > 6 else "")
        raise ValueError(
            f"the label of {name} holds the values {shown}: numbers of classes, as in a mask or trimap, which as an "
            "image are black; give it as it should be drawn, such as 255 for the foreground and 0 for all else "
            "(a codec's encode does it)"
        )


def _pixels_of(image: Image.Image, name: str) -> np.ndarray:
    if image.mode.startswith(("I", "F")):  # Pillow would clip, and a range is not known
        raise ValueError(f"{name} is a PIL image of mode {image.mode}; convert it to 8 bits, or give its path")
    try:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except OSError as error:
        raise ValueError(f"{name} is a damaged or truncated PIL image ({error})") from error
