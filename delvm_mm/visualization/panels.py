"""Panels: a row of prompt | query | prediction | truth, and rows stacked to a sheet."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.visualization.sheets import PAPER, draw_row

CAPTIONS = {
    "image": "prompt {}",
    "label": "label {}",
    "query": "query",
    "prediction": "prediction",
    "truth": "truth",
    "ceiling": "tokenizer ceiling",
}


def draw_panel(
    prompt_images: Sequence[np.ndarray] | np.ndarray,
    query: np.ndarray,
    prediction: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    ceiling: np.ndarray | None = None,
    title: str | None = None,
    captions: Mapping[str, str] | None = None,
    tile_size: int = 160,
) -> np.ndarray:
    """Draw one answer as a row: prompt pairs | query | prediction | truth | tokenizer ceiling.

    Small images are enlarged without blur, by the smallest whole factor that makes their short side at least
    ``tile_size``; larger ones are left as they are.

    Args:
        prompt_images: 2K images, image and label in turn; may be empty.
        query: The image that was asked about. All images are uint8 H x W x 3, RGB, of one size.
        prediction: What the model drew.
        truth: What it should have drawn.
        ceiling: The truth, encoded and decoded by the tokenizer: the best that could be drawn.
        title: A line above the row, shortened where it is longer than that.
        captions: Text instead of the usual one above ``'image'``, ``'label'`` (``{}`` in
            these is the number of the pair), ``'query'``, ``'prediction'``, ``'truth'`` or ``'ceiling'``.
        tile_size: Least short side of a drawn image in pixels.

    Returns:
        uint8, H' x W' x 3, RGB.

    Raises:
        TypeError: An image is not a uint8 array.
        ValueError: Shapes differ or are not H x W x 3, an odd number of prompt images, or an unknown caption.
    """
    if len(prompt_images) % 2:
        raise ValueError(f"prompt_images are pairs of image and label, got {len(prompt_images)} images")
    unknown = set(captions or ()) - set(CAPTIONS)
    if unknown:
        raise ValueError(f"unknown captions {sorted(unknown)}: expected some of {list(CAPTIONS)}")
    texts = {**CAPTIONS, **(captions or {})}

    groups = [
        [
            (texts["image"].format(pair + 1), prompt_images[2 * pair]),
            (texts["label"].format(pair + 1), prompt_images[2 * pair + 1]),
        ]
        for pair in range(len(prompt_images) // 2)
    ]
    answers = {"query": query, "prediction": prediction, "truth": truth, "ceiling": ceiling}
    groups += [[(texts[name], image)] for name, image in answers.items() if image is not None]
    return draw_row(groups, title, tile_size)


def stack_panels(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Lay panels under each other; narrower ones are filled up on the right.

    Args:
        panels: At least one, uint8 H x W x 3.

    Returns:
        uint8, (sum of H) x (largest W) x 3.

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


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image (uint8, H x W x 3 or H x W) as PNG; it appears whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    write_atomically(path, lambda file: Image.fromarray(image).save(file, format="PNG"))
