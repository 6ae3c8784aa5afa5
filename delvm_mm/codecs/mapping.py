"""Taking what was read from a model's image back to the image that it was made of."""

from typing import Any

import numpy as np
from PIL import Image

__all__ = ["ORIGINAL_KEYS", "TILE_KEY", "map_boxes_back", "map_image_back", "map_points_back", "map_prediction_back"]

ORIGINAL_KEYS = ("affine", "ori_shape", "ori_annotation")
"""Fields of a sample that scores at the original's size need."""

TILE_KEY = "tile"
"""Field of a sample that is one of several tiles of an image: its ``number``, how many there are (``count``), and its
``box`` (left, top, right, lower; the latter two exclusive) in pixels of the original."""


def map_points_back(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Points of the original image, from those of the model's.

    Args:
        points: ... x 2, x and y; pixel centers are whole numbers.
        affine: 2 x 3, takes (x, y, 1) of the original image to the model's.

    Returns:
        float64, ... x 2.
    """
    points = np.asarray(points, np.float64)
    return np.linalg.solve(affine[:, :2], (points - affine[:, 2]).reshape(-1, 2).T).T.reshape(points.shape)


def map_boxes_back(boxes: np.ndarray, affine: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Boxes in pixels of the original image, cut at its edges.

    Args:
        boxes: N x 4: x1, y1, x2, y2, where 0 is the left or upper edge of the model's image, half a pixel before the
            center of its first pixel.
        affine: 2 x 3, takes (x, y, 1) of the original image to the model's.
        shape: Height and width of the original.

    Returns:
        float32, M x 4, M <= N: boxes that lie wholly beside the original are left out.
    """
    corners = map_points_back(np.asarray(boxes, np.float64).reshape(-1, 2, 2) - 0.5, affine) + 0.5
    corners = np.stack((corners.min(1), corners.max(1)), 1).clip(0, np.array(shape[::-1], np.float64))
    return corners[(corners[:, 1] > corners[:, 0]).all(1)].reshape(-1, 4).astype(np.float32)


def map_image_back(image: np.ndarray, affine: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """An image or map at the original's size; 0 where the model did not see the original.

    Args:
        image: uint8 H x W x 3, sampled bilinearly, or numbers or bool H x W, whose values stay.
        affine: 2 x 3, takes (x, y, 1) of the original image to the model's.
        shape: Height and width of the original.

    Returns:
        The same type, height x width (x 3).
    """
    # Pillow counts from the corner of a pixel, half a pixel before its center.
    offset = affine[:, 2] + 0.5 - 0.5 * affine[:, :2].sum(1)
    rows = [*affine[0, :2], offset[0], *affine[1, :2], offset[1]]
    is_map = image.ndim == 2
    kind = np.float32 if image.dtype.kind == "f" else np.int32
    source = Image.fromarray(image.astype(kind) if is_map else image)
    sampling = Image.Resampling.NEAREST if is_map else Image.Resampling.BILINEAR
    moved = source.transform(tuple(shape[::-1]), Image.Transform.AFFINE, tuple(map(float, rows)), sampling)
    return np.array(moved).astype(image.dtype)


def map_prediction_back(prediction: Any, affine: np.ndarray, shape: tuple[int, int]) -> Any:
    """What a codec read, in pixels of the original image.

    Args:
        prediction: Of a codec's ``decode``: an image, a map, or a dict with ``keypoints``, ``bboxes``,
            ``instance_map`` or ``foreground``.
        affine: 2 x 3, takes (x, y, 1) of the original image to the model's.
        shape: Height and width of the original.

    Returns:
        As ``prediction``, height and width those of ``shape``; keypoints and boxes are moved, maps take the
        nearest value.
    """
    if isinstance(prediction, np.ndarray):
        return map_image_back(prediction, affine, shape)
    if not isinstance(prediction, dict):
        return prediction
    mapped = dict(prediction)
    if "keypoints" in mapped:
        mapped["keypoints"] = map_points_back(mapped["keypoints"], affine).astype(np.float32)
    if "bboxes" in mapped:
        mapped["bboxes"] = map_boxes_back(mapped["bboxes"], affine, shape)
    for name in ("instance_map", "foreground"):
        if name in mapped:
            mapped[name] = map_image_back(mapped[name], affine, shape)
    if "img_shape" in mapped:
        mapped["img_shape"] = tuple(shape)
    return mapped
