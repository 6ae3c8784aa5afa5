"""What file names are images, and that no name or number is there twice."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

__all__ = ["IMAGE_SUFFIXES", "refuse_twice"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


def refuse_twice(values: Iterable[Any], what: str) -> None:
    """Check that no value is there twice.

    Args:
        values: Such as the ids in a file.
        what: What has them, to begin the message, such as "a.json: image id".

    Raises:
        ValueError: One is; the message names the first five.
    """
    twice = [repr(value) for value, number in Counter(values).items() if number > 1]
    if twice:
        more = f" and {len(twice) - 5} more" if len(twice) > 5 else ""
        raise ValueError(f"{what} {', '.join(twice[:5])}{more} is there more than once: keep one of each")
