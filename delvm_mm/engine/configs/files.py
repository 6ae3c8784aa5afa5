"""Configs read from files and from checkpoints, and written so that they can be read again."""

import ast
import keyword
import math
import os
import zipfile
from pathlib import Path
from typing import Any

from mmengine.config import Config

from delvm_mm.checkpoints.io import CONFIG_SUFFIXES, load_checkpoint
from delvm_mm.checkpoints.sharded import is_sharded

WIDTH = 120
INDENT = 4
SCOPE = "delvm_mm::"
"""What the names of configs that the package carries begin with, as in MMEngine's ``_base_``."""
PACKAGE = Path(__file__).resolve().parents[2]


class PlainConfig(Config):
    """A ``Config`` whose text is quick to make, whatever it holds.

    MMEngine's own is made by a formatter of code, a line for each entry of a list: half a minute and as many lines for
    thousands of ``indices``, several times a run and once for each checkpoint. Here lists of plain values are filled
    into lines, and names of files that are no UTF-8 are escaped, keys too.
    """

    @classmethod
    def of(cls, cfg: Config) -> "PlainConfig":
        """The same config, of this class."""
        plain = cls.__new__(cls)
        plain.__setstate__(cfg.__getstate__())
        return plain

    @property
    def pretty_text(self) -> str:
        """The whole config as Python, sorted by key; :func:`config_from_text` and MMEngine read it."""
        items = sorted(self.to_dict().items(), key=lambda item: str(item[0]))
        return "".join(f"{key} = {_text(value, len(str(key)) + 3)}\n" for key, value in items)


def shipped_configs() -> list[str]:
    """Names of all configs that the package carries, such as 'zoo/mini.py', without those that only others use."""
    root = _config_root()
    files = [] if root is None else sorted(root.glob("*/*.py"))
    return [file.relative_to(root).as_posix() for file in files if not file.match("_*") and file.parent.name[0] != "_"]


def resolve_config(path: str) -> str:
    """The file behind the name of a config.

    Args:
        path: Of a file; or a name such as 'delvm_mm::zoo/mini.py' of one that the package carries; or, where there is
            no such file, 'configs/zoo/mini.py' for the same.

    Returns:
        The path of a file, which need not exist where the name is of none that the package carries.
    """
    root = _config_root()
    if root is None or os.path.exists(path):
        return path
    name = path.removeprefix(SCOPE) if path.startswith(SCOPE) else path.removeprefix("configs/")
    carried = root / name
    return str(carried) if name != path and carried.is_file() and carried.resolve().is_relative_to(root) else path


def _config_root() -> Path | None:
    """Where the package's configs are: in it where it is installed, beside it in a checkout."""
    places = (PACKAGE / ".mim" / "configs", PACKAGE.parent / "configs")
    return next((place for place in places if place.is_dir()), None)


def read_config(path: str) -> PlainConfig:
    """Read a config file.

    Args:
        path: Of the file, or a name that :func:`resolve_config` knows.

    Returns:
        A config whose text is quick to make.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a checkpoint, or another kind of file.
    """
    path = resolve_config(path)
    if not Path(path).exists():
        raise FileNotFoundError(
            f"no config at {path}; configs of this project are in configs/, or named as `delvm configs` lists them"
        )
    if Path(path).suffix not in CONFIG_SUFFIXES:
        what = "a checkpoint" if is_sharded(path) or zipfile.is_zipfile(path) else "no Python, JSON or YAML file"
        raise ValueError(f"{path} is {what}, where a config is expected, such as configs/mini/student.py")
    return PlainConfig.of(Config.fromfile(path))


def config_of_checkpoint(path: str) -> Config | None:
    """The config that a run has saved with its weights; nothing in it is executed.

    Returns:
        None where the checkpoint holds none.

    Raises:
        ValueError: If it is no checkpoint, or its config is not as MMEngine writes them.
    """
    meta = load_checkpoint(path).get("meta")
    text = meta.get("cfg") if isinstance(meta, dict) else None
    return None if not text else config_from_text(text, path)


def config_from_text(text: str, source: str) -> Config:
    """A config from what ``pretty_text`` gives: names, ``dict(...)`` and plain values, and no other code.

    Args:
        text: Lines ``key = value``.
        source: Where they are from, for the message.

    Returns:
        The config.

    Raises:
        ValueError: If there is anything else.
    """
    try:
        content = {}
        for line in ast.parse(text).body:
            (name,) = line.targets
            content[name.id] = _value(line.value)
    except (SyntaxError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(
            f"the config in {source} is not as a run saves it ({error}); give the config's file"
        ) from error
    return PlainConfig.of(Config(content))


def _value(node: ast.expr) -> Any:
    """A literal, ``dict(...)``, ``float('inf')``, or the name of a number that is none, as MMEngine writes it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        given = {key: value for each in node.args for key, value in _value(each).items()}  # MMEngine's dict({...})
        return given | {entry.arg: _value(entry.value) for entry in node.keywords if entry.arg}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
        return float(ast.literal_eval(*node.args))
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.List):
        return [_value(entry) for entry in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(entry) for entry in node.elts)
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return float(node.id)
    if isinstance(node, ast.Name | ast.Attribute):  # a class
        return ast.unparse(node)
    return ast.literal_eval(node)


def _text(value: Any, column: int, indent: int = 0) -> str:
    """A value as Python, from a column on, in as many lines as it needs."""
    if not isinstance(value, dict | list | tuple):
        return _flat(value)
    flat = _flat(value)
    if column + len(flat) < WIDTH or not value:
        return flat
    inner = indent + INDENT
    if isinstance(value, dict):
        named = _has_names(value)
        begin, sign, end = ("dict(", "=", ")") if named else ("{", ": ", "}")
        keys = [f"{key if named else repr(key)}{sign}" for key, _ in _sorted(value)]
        pairs = zip(keys, _sorted(value), strict=True)
        entries = [f"{key}{_text(entry, inner + len(key) + 1, inner)}" for key, (_, entry) in pairs]
    else:
        begin, end = ("[", "]") if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        entries = [_text(entry, inner + 1, inner) for entry in value]
        if not any(isinstance(entry, dict | list | tuple) for entry in value):
            entries = _filled(entries, WIDTH - inner)
    pad = "\n" + " " * inner
    return f"{begin}{pad}{f',{pad}'.join(entries)}{end}"


def _filled(entries: list[str], width: int) -> list[str]:
    """Short texts, put together into lines."""
    lines = [entries[0]]
    for entry in entries[1:]:
        if len(lines[-1]) + len(entry) + 3 <= width:
            lines[-1] += f", {entry}"
        else:
            lines.append(entry)
    return lines


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        if _has_names(value):
            return f"dict({', '.join(f'{key}={_flat(entry)}' for key, entry in _sorted(value))})"
        return "{" + ", ".join(f"{key!r}: {_flat(entry)}" for key, entry in _sorted(value)) + "}"
    if isinstance(value, list | tuple):
        begin, end = ("[", "]") if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        return begin + ", ".join(map(_flat, value)) + end
    if isinstance(value, type):
        return value.__name__ if value.__module__ == "builtins" else f"{value.__module__}.{value.__name__}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value) if isinstance(value, str | bytes) else str(value)


def _has_names(value: dict) -> bool:
    return all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value)


def _sorted(value: dict) -> list[tuple[Any, Any]]:
    return sorted(value.items(), key=lambda item: str(item[0]))
