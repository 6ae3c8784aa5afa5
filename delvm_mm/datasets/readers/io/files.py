"""What file names are images, how they are found, and that no name or number is there twice."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["IMAGE_SUFFIXES", "one_form", "present", "refuse_twice"]

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


def one_form(name: str) -> str:
    """A name with its accents in one form: systems write them as one character or as two."""
    return unicodedata.normalize("NFC", name)


def present(path: str | Path) -> Path:
    """The file or folder that a path names, though its accents may be written in another form on the disk.

    Returns:
        The path as it is where there is none.
    """
    path = Path(path)
    if str(path).isascii() or path.exists():
        return path
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        there = next((found / form for form in forms if (found / form).exists()), None)
        if there is None:
            return path
        found = there
    return found
