"""Crop, resize, flip and warp a whole sample: every field of its results dict moves in one call, none stays behind.

* Images, bilinear: ``img``, ``gt_img`` (H x W x 3) and ``frames`` (n x H x W x 3), uint8.
* Maps, nearest: ``gt_seg_map``, ``gt_instance_map`` (H x W, bool or integer), ``gt_depth_map`` (H x W, float32). What
  comes from outside the image is black and 0.
* People: ``keypoints`` (N x 17 x 2 in COCO's order, x y, pixel centers are whole numbers; N x K x 2 in another where
  ``flip_indices``, K numbers, says what becomes of each in the mirror, as data sets of mmpose do),
  ``keypoints_visible`` (N x 17), ``bbox`` (N x 4 xyxy, where 0 and W, H are the edges), ``area`` (N, pixels) and
  ``head_size`` (N, pixels). N may be 0. What metrics leave out: ``ignored_bbox`` (M x 4), ``ignored_area`` (M).
  Keypoints outside the image get ``keypoints_visible`` 0. Boxes are moved and not clipped, areas and head sizes change
  with the scale only: metrics take the size of a person from them, also when part of the person was cut off.
* ``img_shape`` (H, W), and ``affine`` (2 x 3): takes (x, y, 1) in pixels of the image as it was loaded to those of this
  one, for mapping answers back (``delvm_mm.codecs.mapping``).

The functions change the dict that they are given; arrays in it are replaced, never written to.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import Image

from delvm_mm.codecs.skeletons.openpose import COCO_KEYPOINTS
from delvm_mm.datasets.transforms.formatting import sample_name

__all__ = [
    "IMAGES",
    "MAPS",
    "PEOPLE",
    "crop",
    "flip",
    "height_and_width",
    "image_shape",
    "inside",
    "resize",
    "shape_to_crop",
    "warp",
]

IMAGES = ("img", "gt_img", "frames")
MAPS = ("gt_seg_map", "gt_instance_map", "gt_depth_map")
PEOPLE = ("keypoints", "keypoints_visible", "bbox", "area", "head_size")

_SIDES = {"left": "right", "right": "left"}
# Of each COCO keypoint, the one of the other side: 'left_eye' and 'right_eye', 'nose' and 'nose'.
_OTHER_SIDE = np.array(
    [COCO_KEYPOINTS.index("_".join(_SIDES.get(part, part) for part in name.split("_"))) for name in COCO_KEYPOINTS]
)


def image_shape(results: dict, owner: str) -> tuple[int, int]:
    """Height and width of the images and maps, which have to agree.

    Args:
        results: The dict that passes through a pipeline.
        owner: Name of the transform, for messages.

    Returns:
        Height and width in pixels.

    Raises:
        ValueError: There is no image, sizes differ, or the label is drawn already and would stay behind.
    """
    fields = _present(results, (*IMAGES, *MAPS))
    shapes = {key: np.shape(results[key])[1:3] if key == "frames" else np.shape(results[key])[:2] for key in fields}
    if not shapes:
        raise ValueError(f"{owner} needs 'img' in the results, which have {sorted(results)}: load it before")
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{owner}: the fields of {sample_name(results)} differ in height x width: {shapes}")
    if "annotation" in results:
        raise ValueError(
            f"{owner} comes after DrawLabel in the pipeline of {sample_name(results)}, where the label would not "
            "change with the image: put DrawLabel after it"
        )
    return next(iter(shapes.values()))


def shape_to_crop(results: dict, height: int, width: int, owner: str) -> tuple[int, int]:
    """Height and width of the images, of which ``height`` and ``width`` are to be cut out.

    Returns:
        Height and width in pixels.

    Raises:
        ValueError: They are too small; the message names the sample.
    """
    shape = image_shape(results, owner)
    if shape[0] < height or shape[1] < width:
        raise ValueError(
            f"{owner} to {height}x{width} (height x width) got {sample_name(results)} with "
            f"{shape[0]}x{shape[1]}: put ResizeShortSide before it"
        )
    return shape


def crop(results: dict, top: int, left: int, height: int, width: int) -> None:
    """Cut out a rectangle; it may reach over the image, which is black there.

    Args:
        results: Changed in place.
        top: First row, also negative.
        left: First column, also negative.
        height: Rows of the result, at least 1.
        width: Columns of the result, at least 1.
    """

    def cut(array: np.ndarray) -> np.ndarray:
        return _cut(array, top, left, height, width)

    shape = image_shape(results, "crop")
    _replace(results, cut, cut)
    _move_people(results, np.array([[1.0, 0, -left], [0, 1, -top]]), shape, (height, width))


def resize(results: dict, height: int, width: int) -> None:
    """Resize.

    Images bilinear with antialiasing (Pillow's, which torchvision's ``Resize`` uses on PIL images, as published).

    Args:
        results: Changed in place.
        height: New height in pixels, at least 1.
        width: New width in pixels, at least 1.
    """
    shape = image_shape(results, "resize")
    if shape != (height, width):
        _replace(
            results,
            lambda image: np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)),
            lambda array: _resize_nearest(array, height, width),
        )
    across, down = width / shape[1], height / shape[0]
    # Whole numbers are pixel centers, half a pixel from the border that the resizing keeps fixed.
    matrix = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])
    _move_people(results, matrix, shape, (height, width))


def flip(results: dict, horizontal: bool, vertical: bool) -> None:
    """Mirror left and right, top and bottom, or both.

    A mirrored person is one with left and right exchanged, whichever way the mirror stands: keypoints of the left side
    become those of the right side and the other way round. Mirrored both ways, the image is turned by 180 degrees
    and sides stay.

    Args:
        results: Changed in place.
        horizontal: Mirror left and right.
        vertical: Mirror top and bottom.
    """
    shape = image_shape(results, "flip")
    if not (horizontal or vertical):
        return
    code = -1 if horizontal and vertical else int(horizontal)
    rows, columns = slice(None, None, -1 if vertical else 1), slice(None, None, -1 if horizontal else 1)
    _replace(
        results,
        lambda image: cv2.flip(image, code),  # several times as fast as numpy's
        lambda array: np.ascontiguousarray(array[rows, columns]),
    )
    matrix = np.array(
        [[-1, 0, shape[1] - 1] if horizontal else [1, 0, 0], [0, -1, shape[0] - 1] if vertical else [0, 1, 0]]
    )
    _move_people(results, matrix.astype(float), shape, shape)


def warp(results: dict, matrix: np.ndarray) -> None:
    """Move pixels by an affine map; the size of the image stays.

    ``bbox`` becomes the upright box around the moved corners. No antialiasing: not for making images smaller.

    Args:
        results: Changed in place.
        matrix: 2 x 3; takes (x, y, 1) in old pixels to (x, y) in new ones, where pixel centers are whole numbers. Where
            it mirrors (negative determinant), left and right keypoints are exchanged.
    """
    shape = image_shape(results, "warp")
    size = shape[::-1]
    _replace(
        results,
        lambda image: cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR),
        lambda array: _warp_nearest(array, matrix, size),
    )
    _move_people(results, matrix, shape, shape)


def inside(points: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Whether points (... x 2, x and y) lie in an image of ``shape`` (H, W): pixel 0 reaches from -0.5 to 0.5."""
    return ((points >= -0.5) & (points < np.array([shape[1], shape[0]]) - 0.5)).all(-1)


def height_and_width(size: int | tuple[int, int], owner: str) -> tuple[int, int]:
    """The two of a size given as one side or as (height, width).

    Returns:
        Height and width in pixels.

    Raises:
        ValueError: They are not at least 1 pixel.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"{owner}: size must be at least 1, got {size}")
    return height, width


def _present(results: dict, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if results.get(key) is not None]


def _replace(results: dict, of_image: Callable, of_map: Callable) -> None:
    for key in _present(results, IMAGES):
        array = results[key]
        results[key] = np.stack([of_image(frame) for frame in array]) if key == "frames" else of_image(array)
    for key in _present(results, MAPS):
        results[key] = of_map(results[key])


def _move_people(results: dict, matrix: np.ndarray, shape: tuple[int, int], new_shape: tuple[int, int]) -> None:
    """Take people along an affine map (2 x 3) of pixel coordinates, from ``shape`` (H, W) to ``new_shape``."""
    linear, shift = matrix[:, :2], matrix[:, 2]
    determinant = float(np.linalg.det(linear))
    if results.get("keypoints") is not None:
        _move_keypoints(results, linear, shift, determinant < 0, shape, new_shape)
    for key in _present(results, ("bbox", "ignored_bbox")):
        edges = np.asarray(results[key], np.float64).reshape(-1, 4)
        # Edge 0 is half a pixel before the center of pixel 0.
        corners = edges[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2) - 0.5
        corners = corners @ linear.T + shift + 0.5
        results[key] = np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)
    larger = abs(determinant)
    for key, scale in (("area", larger), ("ignored_area", larger), ("head_size", larger**0.5)):
        if results.get(key) is not None:
            results[key] = (np.asarray(results[key]) * scale).astype(np.float32)
    results["img_shape"] = new_shape
    before = results.get("affine", np.eye(2, 3))
    results["affine"] = linear @ before + np.pad(shift[:, None], ((0, 0), (2, 0)))


def _move_keypoints(
    results: dict,
    linear: np.ndarray,
    shift: np.ndarray,
    mirrored: bool,
    shape: tuple[int, int],
    new_shape: tuple[int, int],
) -> None:
    points = np.asarray(results["keypoints"], np.float64)
    other_side = np.asarray(results.get("flip_indices", _OTHER_SIDE))
    if points.ndim != 3 or points.shape[2] != 2 or (mirrored and points.shape[1] != len(other_side)):
        raise ValueError(
            f"the keypoints of {sample_name(results)} have shape {points.shape}, expected N x {len(other_side)} x 2 "
            + ("in the order of 'flip_indices'" if "flip_indices" in results else "in COCO's order")
            + ", with N = 0 where there is nobody"
        )
    moved = points @ linear.T + shift
    order = other_side if mirrored else slice(None)
    results["keypoints"] = moved[:, order].astype(np.float32)
    if results.get("keypoints_visible") is not None:
        visible = np.asarray(results["keypoints_visible"])
        seen = (inside(points, shape) & inside(moved, new_shape)).reshape(visible.shape)
        results["keypoints_visible"] = np.where(seen, visible, 0).astype(visible.dtype)[:, order]


def _cut(array: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    first_row, first_column = max(top, 0), max(left, 0)
    end_row, end_column = max(first_row, top + height), max(first_column, left + width)
    part = array[first_row:end_row, first_column:end_column]
    if part.shape[:2] == (height, width):
        return np.ascontiguousarray(part)
    canvas = np.zeros((height, width, *array.shape[2:]), array.dtype)
    row, column = first_row - top, first_column - left
    canvas[row : row + part.shape[0], column : column + part.shape[1]] = part
    return canvas


def _resize_nearest(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Values under the centers of the new pixels; any type, where Pillow and OpenCV know only some."""
    rows = (np.arange(height) + 0.5) * array.shape[0] / height
    columns = (np.arange(width) + 0.5) * array.shape[1] / width
    return array[rows.astype(int)[:, None], columns.astype(int)]


def _warp_nearest(array: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest neighbor by OpenCV, which knows only some types: as it only moves values, it is given their bytes."""
    wide = array.itemsize > 4  # at most four channels
    channels = np.ascontiguousarray(array).view(np.uint16 if wide else np.uint8).reshape(*array.shape, -1)
    moved = cv2.warpAffine(channels, matrix, size, flags=cv2.INTER_NEAREST)
    return np.ascontiguousarray(moved).view(array.dtype).reshape(size[::-1])
