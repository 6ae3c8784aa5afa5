"""Boxes drawn as filled rectangles, and the box around the largest region of such a drawing."""

from typing import Any

import cv2
import numpy as np

from delvm_mm.codecs.base import LabelCodec, check_image, pick
from delvm_mm.codecs.masks.mask import ForegroundMaskCodec
from delvm_mm.registry import TASK_UTILS


@TASK_UTILS.register_module()
class BoxCodec(LabelCodec):
    """Boxes as filled rectangles; what is read back is the box around the largest connected region.

    The annotation is ``dict(bboxes=N x 4, img_shape=(H, W))``: x1, y1, x2, y2 in pixels, where 0 and W, H are the edges
    of the image. Edges are rounded to whole pixels, a box in the image is at least one pixel wide and high. The
    prediction is the same dict, float32, with N = 1, or 0 where there is no foreground, and ``foreground``, the mask it
    was read from (uint8, H x W); as a truth, such a dict is scored by that mask. One box comes back to half a
    pixel at each edge; a blur (sigma 1.5), JPEG of quality 50 or Gaussian noise (sigma 12) leave an IoU above 0.9 where
    both sides have 24 pixels or more.

    It is the label of single-object detection in Bar et al., "Visual Prompting via Image Inpainting", NeurIPS 2022.
    Several boxes are drawn together and cannot be told apart when they are read.

    Args:
        foreground: RGB of the boxes. Default: white.
        background: RGB of everything else. Default: black.
        threshold: as of :class:`ForegroundMaskCodec`.

    Raises:
        ValueError: if an argument is none that :class:`ForegroundMaskCodec` takes.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import BoxCodec
        >>> codec = BoxCodec()
        >>> image = codec.encode(dict(bboxes=np.array([[2, 3, 9, 8]]), img_shape=(16, 16)))
        >>> codec.decode(image)["bboxes"].tolist()
        [[2.0, 3.0, 9.0, 8.0]]
    """

    def __init__(
        self,
        foreground: tuple[int, int, int] = (255, 255, 255),
        background: tuple[int, int, int] = (0, 0, 0),
        threshold: float = 0.5,
    ) -> None:
        self.mask_codec = ForegroundMaskCodec(foreground, background, threshold)
        self.background, self.palette = self.mask_codec.background, self.mask_codec.palette
        self.dataset_meta = self.mask_codec.dataset_meta

    def encode(self, annotation: dict[str, Any]) -> np.ndarray:
        """Draw boxes.

        Args:
            annotation: see the class.

        Returns:
            RGB image, uint8, H x W x 3.

        Raises:
            TypeError: if the annotation is not a dict of numbers.
            ValueError: if a key is missing, or the boxes are not N x 4, finite and above 0 in size.
        """
        return self.mask_codec.encode(filled(*_check(annotation, "encode")))

    def decode(self, image: np.ndarray) -> dict[str, Any]:
        """Read the box around the largest region.

        Args:
            image: RGB, uint8, H x W x 3.

        Returns:
            ``bboxes`` (float32, 1 x 4, or 0 x 4 where nothing is foreground), ``img_shape`` and ``foreground``.

        Raises:
            TypeError: if the image is not a uint8 array.
            ValueError: if it is not H x W x 3.
        """
        check_image(image, "BoxCodec.decode")
        foreground = self.mask_codec.decode(image)
        return dict(bboxes=box_of_largest(foreground), img_shape=image.shape[:2], foreground=foreground)

    def annotation_of(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return ``results['bbox']`` (N x 4) and the size of ``results['img']``.

        Raises:
            ValueError: if a field is missing.
        """
        shape = np.shape(pick(results, "img", "BoxCodec"))[:2]
        return dict(bboxes=np.asarray(pick(results, "bbox", "BoxCodec")), img_shape=shape)

    def to_fields(self, truth: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
        """Lay out truth and prediction as metrics read them.

        Args:
            truth: what :meth:`annotation_of` gave, or :meth:`decode` of a drawing of it.
            prediction: what :meth:`decode` gave, of an image of the same size.

        Returns:
            ``pred_instances`` and ``gt_instances``, each a dict with ``bboxes``; ``pred_sem_seg`` and
            ``gt_sem_seg``, each a dict with ``data``: the filled boxes, int64, 1 x H x W.

        Raises:
            TypeError: if one of them is not a dict of numbers.
            ValueError: if a key is missing, or the sizes differ.
        """
        (true_boxes, shape), (boxes, other) = _check(truth, "to_fields, truth"), _check(prediction, "to_fields")
        if shape != other:
            raise ValueError(f"BoxCodec: the truth is of an image of {shape}, the prediction of one of {other}")
        true_mask = truth["foreground"] if "foreground" in truth else filled(true_boxes, shape)
        masks = self.mask_codec.to_fields(true_mask, filled(boxes, shape))
        return dict(pred_instances=dict(bboxes=boxes), gt_instances=dict(bboxes=true_boxes), **masks)


def box_of_largest(mask: np.ndarray) -> np.ndarray:
    """The box around the largest connected region of a mask.

    Args:
        mask: uint8, H x W, of 0 and 1.

    Returns:
        float32, 1 x 4: x1, y1, x2, y2 in pixels; 0 x 4 where the mask is empty.
    """
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        return np.zeros((0, 4), np.float32)
    x, y, width, height, _ = stats[1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])]
    return np.array([[x, y, x + width, y + height]], np.float32)


def filled(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Mask of filled boxes.

    Args:
        boxes: N x 4: x1, y1, x2, y2 in pixels.
        shape: Height and width of the mask.

    Returns:
        uint8, H x W, of 0 and 1.
    """
    mask = np.zeros(shape, np.uint8)
    for box in boxes:
        x1, y1, x2, y2 = (int(edge) for edge in np.floor(np.asarray(box, np.float64) + 0.5))
        mask[max(y1, 0) : max(y2, y1 + 1, 0), max(x1, 0) : max(x2, x1 + 1, 0)] = 1
    return mask


def _check(annotation: Any, where: str) -> tuple[np.ndarray, tuple[int, int]]:
    if not isinstance(annotation, dict):
        raise TypeError(
            f"BoxCodec.{where}: got a {type(annotation).__name__}, expected dict(bboxes=..., img_shape=...)"
        )
    if missing := [key for key in ("bboxes", "img_shape") if key not in annotation]:
        raise ValueError(f"BoxCodec.{where}: {' and '.join(missing)} is missing, the annotation has {[*annotation]}")
    boxes = np.asarray(annotation["bboxes"])
    if boxes.dtype.kind not in "iuf":
        raise TypeError(f"BoxCodec.{where}: bboxes are {boxes.dtype}, expected numbers")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ValueError(
            f"BoxCodec.{where}: bboxes have shape {boxes.shape}, expected N x 4 finite numbers, x1 y1 x2 y2"
        )
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError(f"BoxCodec.{where}: bboxes are {boxes.tolist()}, expected x1 < x2 and y1 < y2")
    height, width = annotation["img_shape"]
    return boxes, (int(height), int(width))
