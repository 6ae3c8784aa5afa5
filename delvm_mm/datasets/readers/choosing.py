"""Which samples of a data set are used: those that a list names, or every n-th one."""

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from delvm_mm.datasets.readers.io.files import IMAGE_SUFFIXES, one_form, refuse_twice

__all__ = ["listed", "regular_part"]


def listed(paths: Sequence[str], root: str | Path, list_file: str | Path) -> list[int]:
    """Positions of the samples that a list names, in its order.

    Args:
        paths: Image of each sample; several samples may have one.
        root: Folder of the data set.
        list_file: Text file with a name in each line: the end of an image's path, such as ``cat_1``, ``cat_1.jpg`` or
            ``images/cat_1.jpg``, or a folder under ``root``, for all in it. What follows a blank is not looked at, nor
            are empty lines and those that begin with #.

    Returns:
        Positions in ``paths``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text, names nothing, a name twice, one that no sample has, or one of several images.
    """
    list_file = Path(list_file)
    names = _read_names(list_file)
    by_name: dict[tuple[str, ...], dict[tuple[str, ...], list[int]]] = {}
    base = _parts(str(root))
    for position, path in enumerate(paths):
        parts = _parts(path)
        below = parts[len(base) :] if parts[: len(base)] == base else ()
        ends = {parts[start:] for start in range(len(parts))}
        folders = {below[:end] for end in range(1, len(below))}
        for name in ends:
            by_name.setdefault(name, {}).setdefault(parts, []).append(position)
        for name in folders - ends:
            # All images of a folder are one thing to name.
            by_name.setdefault(name, {}).setdefault((), []).append(position)
    missing = [name for name in names if _parts(name) not in by_name]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ValueError(
            f"{list_file} names {', '.join(missing[:5])}{more}, which no sample of {root} has ({len(paths)} samples, "
            f"the first is {paths[0] if paths else 'none'}): expected the end of an image's path in each line"
        )
    positions = []
    for name in names:
        found = by_name[_parts(name)]
        if len(found) > 1:
            several = ", ".join("/".join(parts) for parts in [*found][:3])
            raise ValueError(f"{list_file} names {name}, which may be {several}: name more of the path")
        positions += next(iter(found.values()))
    refuse_twice(positions, f"{list_file}: number of a sample")
    return positions


def regular_part(groups: Sequence[str], val_every: int, part: str) -> list[int]:
    """Positions of the samples of one part of a data set.

    Args:
        groups: What each sample belongs to, such as its image: never divided.
        val_every: Groups 0, n, 2n, ... in the order of the data set are of the part 'val'.
        part: 'val', or 'train' for all others.

    Returns:
        Positions in ``groups``, ascending.
    """
    numbers: dict[str, int] = {}
    for group in groups:
        numbers.setdefault(group, len(numbers))
    of_val = np.array([numbers[group] % val_every == 0 for group in groups], bool)
    return np.flatnonzero(of_val if part == "val" else ~of_val).tolist()


def _read_names(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"no list of samples at {path}: expected a text file with a name in each line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: expected the name of an image in each line") from error
    names = [line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise ValueError(f"{path} names nothing: expected the name of an image in each line")
    refuse_twice(names, f"{path}: name")
    return names


def _parts(name: str) -> tuple[str, ...]:
    """Parts of a path without the image's suffix, with accents in one form on every system."""
    path = PurePath(one_form(name))
    return (path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path).parts
