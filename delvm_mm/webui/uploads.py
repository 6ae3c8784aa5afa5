"""What a browser sent: images, and a part of one, read within limits, with messages that show no path of the server."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.datasets import read_image

__all__ = ["UploadError", "UploadLimits", "read_box", "read_upload"]

NAME_LENGTH = 60  # characters of a file's name in messages


class UploadError(ValueError):
    """Something that the person at the page can mend; its text is shown there."""


@dataclass(frozen=True)
class UploadLimits:
    """What is accepted.

    Attributes:
        folder: The page's own temporary folder; nothing outside is read.
        max_bytes: Of one file.
        max_pixels: Of one image, checked in the header before it is decoded.
    """

    folder: Path
    max_bytes: int = 20 * 2**20
    max_pixels: int = 25_000_000


def read_upload(payload: Any, what: str, limits: UploadLimits) -> np.ndarray:
    """Read one uploaded image.

    Args:
        payload: What the page sends for an image: a dict with ``path`` and ``orig_name``.
        what: Which image it is, for messages.
        limits: What is accepted.

    Returns:
        uint8, H x W x 3, RGB.

    Raises:
        UploadError: It is missing, outside the folder, too large, damaged or no image.
    """
    if not payload:
        raise UploadError(f"{what} is missing: add an image, or start from an example")
    path = payload.get("path") if isinstance(payload, dict) else None
    if not isinstance(path, str) or "\0" in path:
        raise UploadError(f"{what} is not an uploaded image: add it again")
    file = Path(path).resolve()
    if not file.is_relative_to(limits.folder.resolve()) or not file.is_file():
        raise UploadError(f"{what} is not on the server (any more): add it again")
    given = payload.get("orig_name")
    name = Path(given if isinstance(given, str) and given else file.name).name[-NAME_LENGTH:]
    if file.stat().st_size > limits.max_bytes:
        raise UploadError(f"{what}: {name} is larger than {limits.max_bytes // 2**20} MB: give a smaller file")
    try:
        return read_image(name, limits.max_pixels, content=file.read_bytes())
    except (ValueError, OSError, MemoryError) as error:
        raise UploadError(f"{what}: {error}") from error


def read_box(text: Any) -> tuple[float, ...] | None:
    """Read the part of an image that somebody has typed.

    Args:
        text: x1, y1, x2, y2 in pixels, with commas or spaces between them; nothing for the whole image.

    Returns:
        The four numbers, or None. Whether they lie inside the image is not known here.

    Raises:
        UploadError: It is something else.
    """
    if text is None or (isinstance(text, str) and not text.strip()):
        return None
    parts = text.replace(",", " ").split() if isinstance(text, str) else []
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = ()
    if len(numbers) != 4 or not all(math.isfinite(number) for number in numbers):
        raise UploadError(
            f"The part of the query is {str(text)[:NAME_LENGTH]!r}: give four numbers, x1, y1, x2, y2 in its pixels, "
            "or nothing for all of it"
        )
    return numbers
