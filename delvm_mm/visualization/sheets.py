"""Rows of captioned images, from which sheets and panels are made."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_row"]

PAPER = (245, 245, 245)
INK = (25, 25, 25)
FRAME = (170, 170, 170)
PAIR_GAP, GROUP_GAP, MARGIN = 2, 10, 6  # pixels

Tile = tuple[str, np.ndarray]


def draw_row(groups: Sequence[Sequence[Tile]], title: str | None = None, tile_size: int = 160) -> np.ndarray:
    """Draw images side by side, those of a group close together.

    Small images are enlarged without blur, by the smallest whole factor that makes their short side at least
    ``tile_size``; larger ones are left as they are.

    Args:
        groups: Groups of (caption, image); images are uint8 H x W x 3, RGB, all of one size.
        title: A line above the row, shortened where it is longer than that.
        tile_size: Least short side of a drawn image in pixels.

    Returns:
        uint8, H' x W' x 3, RGB.

    Raises:
        TypeError: An image is not a uint8 array.
        ValueError: There is no image, shapes differ or are not H x W x 3.
    """
    tiles = [tile for group in groups for tile in group]
    if not tiles:
        raise ValueError("there is no image to draw: expected at least one")
    for caption, image in tiles:
        _check_image(image, caption, *tiles[0])

    height, width = tiles[0][1].shape[:2]
    factor = max(1, -(-tile_size // min(height, width)))
    height, width = height * factor, width * factor
    text_height = max(12, min(height, width) // 12)
    line = text_height + 8
    top = MARGIN + line * (2 if title else 1)
    gaps = [PAIR_GAP] * len(tiles)
    for group_end in np.cumsum([len(group) for group in groups if group]):
        gaps[group_end - 1] = GROUP_GAP
    gaps[-1] = 0
    row = np.full((top + height + MARGIN, 2 * MARGIN + width * len(tiles) + sum(gaps), 3), PAPER, np.uint8)

    lefts = MARGIN + np.cumsum([0, *(width + gap for gap in gaps[:-1])])
    for left, (_, image) in zip(lefts, tiles, strict=True):
        row[top - 1 : top + height + 1, left - 1 : left + width + 1] = FRAME
        row[top : top + height, left : left + width] = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_NEAREST
        )

    page = Image.fromarray(row)
    pen = ImageDraw.Draw(page)
    if title:
        font = _font(text_height + 2)
        pen.text((MARGIN, MARGIN - 2), _shorten(title, font, row.shape[1] - 2 * MARGIN), INK, font)
    font = _font(text_height)
    for left, (caption, _) in zip(lefts, tiles, strict=True):
        pen.text((int(left), top - line + 1), _shorten(caption, font, width), INK, font)
    return np.array(page)


def _check_image(image: np.ndarray, caption: str, first_caption: str, first: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"image {caption!r} of a row must be a uint8 array of H x W x 3, got {kind}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image {caption!r} of a row must have shape H x W x 3, got {image.shape}")
    if image.shape != first.shape:
        raise ValueError(
            f"images of a row have one size: {caption!r} has {image.shape}, {first_caption!r} has "
            f"{first.shape}; resize it"
        )


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size=size)
    except (TypeError, ImportError, OSError):  # Pillow before 10.1, or built without FreeType: one small size
        return ImageFont.load_default()


def _shorten(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """Cut a text at the end so that it is at most ``width`` pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
