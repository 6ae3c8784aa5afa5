"""Pictures for people: one row of prompt | query | prediction | truth, and rows stacked to a sheet."""

from collections.abc import Mapping, Sequence

import numpy as np

from .sheets import PAPER, draw_row

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
    return draw_row(groups, title, tile_size)


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
