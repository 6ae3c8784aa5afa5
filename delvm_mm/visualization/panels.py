"""Pictures for people: one row of prompt | query | prediction | truth, and rows stacked to a sheet."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER = (245, 245, 245)
INK = (25, 25, 25)
FRAME = (170, 170, 170)
PAIR_GAP, GROUP_GAP, MARGIN = 2, 10, 6  # pixels
CAPTIONS = {
    "image": "prompt {}",
    "label": "label {}",
    "query": "query",
    "prediction": "prediction",
    "truth": "truth",
    "ceiling": "tokenizer ceiling",
}


def draw_panel(
    prompt_pictures: Sequence[np.ndarray] | np.ndarray,
    query: np.ndarray,
    prediction: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    ceiling: np.ndarray | None = None,
    title: str | None = None,
    captions: Mapping[str, str] | None = None,
    tile_size: int = 160,
) -> np.ndarray:
    """Draw one answer as a row: prompt pairs | query | prediction | truth | tokenizer ceiling.

    Small pictures are enlarged without blur, by the smallest whole factor that makes their short side at least
    ``tile_size``; larger ones are left as they are.

    Args:
        prompt_pictures (Sequence[np.ndarray] | np.ndarray): 2K pictures, picture and label in turn; may be empty.
        query (np.ndarray): The picture that was asked about. All pictures are uint8 H x W x 3, RGB, of one size.
        prediction (np.ndarray, optional): What the model drew.
        truth (np.ndarray, optional): What it should have drawn.
        ceiling (np.ndarray, optional): The truth after a way through the tokenizer: the best that could be drawn.
        title (str, optional): A line above the row, shortened where it is longer than that.
        captions (Mapping[str, str], optional): Text instead of the usual one above ``'image'``, ``'label'`` (``{}`` in
            these is the number of the pair), ``'query'``, ``'prediction'``, ``'truth'`` or ``'ceiling'``.
        tile_size (int): Least short side of a drawn picture in pixels.

    Returns:
        np.ndarray: uint8, H' x W' x 3, RGB.

    Raises:
        TypeError: A picture is not a uint8 array.
        ValueError: Shapes differ or are not H x W x 3, an odd number of prompt pictures, or an unknown caption.
    """
    if len(prompt_pictures) % 2:
        raise ValueError(f"prompt_pictures are pairs of picture and label, got {len(prompt_pictures)} pictures")
    unknown = set(captions or ()) - set(CAPTIONS)
    if unknown:
        raise ValueError(f"unknown captions {sorted(unknown)}: expected some of {list(CAPTIONS)}")
    texts = {**CAPTIONS, **(captions or {})}

    groups = [
        [
            (texts["image"].format(pair + 1), prompt_pictures[2 * pair]),
            (texts["label"].format(pair + 1), prompt_pictures[2 * pair + 1]),
        ]
        for pair in range(len(prompt_pictures) // 2)
    ]
    answers = {"query": query, "prediction": prediction, "truth": truth, "ceiling": ceiling}
    groups += [[(texts[name], picture)] for name, picture in answers.items() if picture is not None]
    tiles = [tile for group in groups for tile in group]
    for caption, picture in tiles:
        _check_picture(picture, caption, query)

    height, width = query.shape[:2]
    factor = max(1, -(-tile_size // min(height, width)))
    height, width = height * factor, width * factor
    text_height = max(12, min(height, width) // 12)
    line = text_height + 8
    top = MARGIN + line * (2 if title else 1)
    gaps = [PAIR_GAP] * len(tiles)
    for group_end in np.cumsum([len(group) for group in groups]):
        gaps[group_end - 1] = GROUP_GAP
    gaps[-1] = 0
    panel = np.full((top + height + MARGIN, 2 * MARGIN + width * len(tiles) + sum(gaps), 3), PAPER, np.uint8)

    lefts = MARGIN + np.cumsum([0, *(width + gap for gap in gaps[:-1])])
    for left, (_, picture) in zip(lefts, tiles, strict=True):
        panel[top - 1 : top + height + 1, left - 1 : left + width + 1] = FRAME
        panel[top : top + height, left : left + width] = cv2.resize(
            picture, (width, height), interpolation=cv2.INTER_NEAREST
        )

    page = Image.fromarray(panel)
    pen = ImageDraw.Draw(page)
    if title:
        font = _font(text_height + 2)
        pen.text((MARGIN, MARGIN - 2), _shorten(title, font, panel.shape[1] - 2 * MARGIN), INK, font)
    font = _font(text_height)
    for left, (caption, _) in zip(lefts, tiles, strict=True):
        pen.text((int(left), top - line + 1), _shorten(caption, font, width), INK, font)
    return np.array(page)


def stack_panels(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Lay panels under each other; narrower ones are filled up on the right.

    Args:
        panels (Sequence[np.ndarray]): At least one, uint8 H x W x 3.

    Returns:
        np.ndarray: uint8, (sum of H) x (largest W) x 3.

    Raises:
        ValueError: There is no panel.
    """
    if not len(panels):
        raise ValueError("there is no panel to stack: expected at least one")
    width = max(panel.shape[1] for panel in panels)
    sheet = np.full((sum(panel.shape[0] for panel in panels), width, 3), PAPER, np.uint8)
    top = 0
    for panel in panels:
        sheet[top : top + panel.shape[0], : panel.shape[1]] = panel
        top += panel.shape[0]
    return sheet


def _check_picture(picture: np.ndarray, caption: str, query: np.ndarray) -> None:
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        kind = picture.dtype if isinstance(picture, np.ndarray) else type(picture).__name__
        raise TypeError(f"picture {caption!r} of a panel must be a uint8 array of H x W x 3, got {kind}")
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"picture {caption!r} of a panel must have shape H x W x 3, got {picture.shape}")
    if picture.shape != query.shape:
        raise ValueError(
            f"pictures of a panel have one size: {caption!r} has {picture.shape}, the query {query.shape}; resize it"
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
