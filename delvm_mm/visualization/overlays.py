"""What was read from a label image, drawn over the image that it is about."""

from typing import Any

import cv2
import numpy as np

from delvm_mm.codecs import LabelCodec, RestorationCodec

MASK_COLOR = (255, 64, 96)
OPACITY, DRAWING_OPACITY = 0.5, 0.8  # of a mask, of what a codec draws


def draw_overlay(image: np.ndarray, decoded: Any, codec: LabelCodec) -> np.ndarray | None:
    """Draw a prediction over its query.

    A mask is tinted and outlined; anything else is drawn by its codec and laid over the image.

    Args:
        image: uint8 H x W x 3, RGB.
        decoded: What ``codec.decode`` gave for an image of the same size.
        codec: The codec.

    Returns:
        uint8 H x W x 3; None where the prediction is an image of its own, as in deraining.

    Raises:
        ValueError: If the prediction is of another size.
    """
    if isinstance(codec, RestorationCodec):
        return None
    if isinstance(decoded, np.ndarray) and decoded.ndim == 2 and decoded.dtype.kind in "bui":
        return _tint(image, decoded)
    drawing = codec.encode(decoded)
    if drawing.shape != image.shape:
        raise ValueError(f"the prediction is of a {drawing.shape} image, the query is {image.shape}: give its own")
    # How far a pixel is from the background is how much of it is covered: edges are drawn smooth.
    background = np.array(codec.background, np.float32)
    difference = drawing.astype(np.float32) - background
    coverage = np.abs(difference).max(-1, keepdims=True) / 255
    color = background + difference / np.maximum(coverage, 1 / 255)
    coverage *= DRAWING_OPACITY
    return (image * (1 - coverage) + color * coverage).round().clip(0, 255).astype(np.uint8)


def _tint(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if mask.shape != image.shape[:2]:
        raise ValueError(f"the mask is {mask.shape}, the query {image.shape[:2]}: give the query's own mask")
    mask = (mask != 0).astype(np.uint8)
    overlay = image.copy()
    tinted = cv2.addWeighted(image, 1 - OPACITY, np.full_like(image, MASK_COLOR), OPACITY, 0)
    overlay[mask > 0] = tinted[mask > 0]
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(overlay, outlines, -1, MASK_COLOR, 1)
