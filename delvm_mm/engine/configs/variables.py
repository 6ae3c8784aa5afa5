"""Variables of config files: what was computed from them when the file was read, and stays as it is."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_IN_TEXT = re.compile(r"\{\{\s*_base_\.(\w+)")
Places = dict[tuple[str, ...], set[str]]


def computed_from(path: str, variable: str) -> list[str]:
    """Dotted keys of a config that were computed from one of its variables, or of its bases'.

    Args:
        path: A config file in Python; of another nothing is known.
        variable: A name at the top of one of the files.

    Returns:
        In the order of the files, other variables among them.
    """
    places: Places = {}
    for file in _files(Path(path), []):
        _read(file, places)
    found: list[str] = []
    names = {variable}
    while new := [place for place, used in places.items() if used & names and ".".join(place) not in found]:
        found += [".".join(place) for place in new]
        names |= {place[0] for place in new}
    return [key for key in found if key != variable]


def ineffective_options(path: str, options: Mapping[str, object], known: set[str]) -> tuple[str, list[str]] | None:
    """The first option that changes a variable after everything was computed from it.

    Args:
        path: The config's file.
        options: Dotted keys and values, as ``--cfg-options`` gives them.
        known: Top-level keys that are read; what is under another is a variable.

    Returns:
        Its key, and the keys that are read and keep the value that they have; None where all options have an effect.
    """
    for key in options:
        top = key.split(".")[0]
        if top in known:
            continue
        kept = [
            place
            for place in computed_from(path, top)
            if place.split(".")[0] in known and not any(_within(place, given) for given in options)
        ]
        if kept:
            return key, kept
    return None


def _within(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.")


def _files(path: Path, done: list[Path]) -> list[Path]:
    """A config file after its bases."""
    path = path.resolve()
    if path in done or path.suffix != ".py" or not path.is_file():
        return done
    for line in _lines(path):
        if isinstance(line, ast.Assign) and _names(line) == ["_base_"]:
            try:
                bases = ast.literal_eval(line.value)
            except ValueError:
                continue
            for base in [bases] if isinstance(bases, str) else bases:
                _files(path.parent / base, done)
        elif isinstance(line, ast.With):  # read_base()
            for statement in line.body:
                if isinstance(statement, ast.ImportFrom) and statement.level:
                    folder = path.parents[statement.level - 1]
                    _files(folder.joinpath(*(statement.module or "").split(".")).with_suffix(".py"), done)
    done.append(path)
    return done


def _lines(path: Path) -> list[ast.stmt]:
    try:
        return ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, UnicodeDecodeError):  # such as {{ fileBasename }} outside of quotes
        return []


def _names(line: ast.Assign) -> list[str]:
    return [target.id for target in line.targets if isinstance(target, ast.Name)]


def _read(path: Path, places: Places) -> None:
    """Note of each place in a file which variables its value names; later files replace what earlier ones say."""
    for line in _lines(path):
        if not isinstance(line, ast.Assign):
            continue
        for name in _names(line):
            new: Places = {}
            for place, used in _walk(line.value, (name,)):
                new[place] = new.get(place, set()) | used
            for place in [old for old in places for given in new if old[: len(given)] == given]:
                places.pop(place, None)
            places.update(new)


def _walk(value: ast.expr, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Places below a place, each with the names that its value is made of."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict":
        for entry in value.keywords:
            yield from _walk(entry.value, (*place, entry.arg) if entry.arg else place)
    elif isinstance(value, ast.Dict):
        for key, entry in zip(value.keys, value.values, strict=True):
            below = (*place, str(key.value)) if isinstance(key, ast.Constant) else place
            yield from _walk(entry, below)
    elif isinstance(value, ast.List | ast.Tuple) and not any(isinstance(entry, ast.Starred) for entry in value.elts):
        for number, entry in enumerate(value.elts):
            yield from _walk(entry, (*place, str(number)))
    else:
        yield place, set(_used(value))


def _used(value: ast.expr) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "_base_":
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _IN_TEXT.findall(node.value)
