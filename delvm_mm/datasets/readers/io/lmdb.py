"""Images in an LMDB folder as BasicSR writes it, read without ever touching a damaged memory map."""

import os
import re
import struct
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from delvm_mm.datasets.readers.io.files import refuse_twice

__all__ = ["LmdbEntry", "LmdbImages"]

_LINE = re.compile(r"(?P<key>.+)\.\w+ \(\d+, ?\d+, ?\d+\) \d+")

# Page header (16 bytes) and meta data at the head of the file's first two pages, as a 64-bit LMDB 0.9 writes them:
# magic, version, [map address, map size], page size, [the rest of two table headers], last page, [transaction].
_META = struct.Struct("=16xII16xI92xQ8x")
_MAGIC, _VERSION = 0xBEEFC0DE, 1

_OPEN: dict[Path, tuple[tuple, Any]] = {}
"""Environments of this process, each with what its file was when it was opened: LMDB opens a file once a process."""


class LmdbEntry(NamedTuple):
    """One line of ``meta_info.txt``: the key, and what is wrong with the line ('' where nothing is)."""

    key: str
    problem: str


class LmdbImages:
    """The encoded images in one LMDB folder, by key.

    Layout, from `BasicSR <https://github.com/XPixelGroup/BasicSR/blob/master/docs/DatasetPreparation.md>`_::

        input.lmdb/
        ├── data.mdb        key: name without suffix; value: the encoded image (PNG)
        ├── lock.mdb        not needed to read
        └── meta_info.txt   a line per image: name.png (height,width,channels) compression_level

    The data base is opened at the first read, once in every process, and never pickled, so that the object can go to
    worker processes. LMDB maps ``data.mdb`` into memory, where reading behind the end of a file that was cut short
    would kill the process; the size that the file's header asks for is therefore checked before every read.

    Args:
        path: The folder.

    Raises:
        ImportError: The package ``lmdb`` is not installed.
        FileNotFoundError: The folder, ``data.mdb`` or ``meta_info.txt`` is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _require_lmdb(self.path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"no LMDB folder at {self.path}: expected data.mdb and meta_info.txt in it")
        for name in ("data.mdb", "meta_info.txt"):
            if not (self.path / name).is_file():
                raise FileNotFoundError(
                    f"no {name} in {self.path}: expected an LMDB folder as BasicSR writes it (data.mdb, meta_info.txt)"
                )

    def entries(self) -> list[LmdbEntry]:
        """What ``meta_info.txt`` lists, in its order; a damaged line is an entry with a problem.

        Returns:
            At least one entry.

        Raises:
            ValueError: The file lists nothing, or a key twice.
        """
        path = self.path / "meta_info.txt"
        lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
        entries = [_parse_line(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
        if not entries:
            raise ValueError(f"{path} lists no image: expected a line 'name.png (height,width,channels) level' each")
        refuse_twice((entry.key for entry in entries), f"{path}: key")
        return entries

    def read(self, key: str) -> bytes:
        """The encoded image of a key.

        Returns:
            Bytes of an image file.

        Raises:
            OSError: ``data.mdb`` cannot be opened.
            ValueError: ``data.mdb`` is cut short or damaged, or there is no such key.
        """
        import lmdb

        try:
            with _environment(self.path / "data.mdb").begin() as transaction:
                content = transaction.get(key.encode("utf-8"))
        except lmdb.Error as error:
            raise ValueError(f"{self.path / 'data.mdb'} cannot be read at key {key!r}: {error}") from error
        if content is None:
            raise ValueError(
                f"{self.path} has no image with key {key!r} in data.mdb: make the LMDB again, or remove the line "
                "from meta_info.txt"
            )
        return content


def _parse_line(line: str, place: str) -> LmdbEntry:
    match = _LINE.fullmatch(line.strip())
    if match:
        return LmdbEntry(match["key"], "")
    # What may be left of the name still says which image of the other LMDB it belongs to.
    name = line.strip().split(" (")[0]
    problem = f"{place} is {line.strip()!r}: expected 'name.png (height,width,channels) level'"
    return LmdbEntry(name.rpartition(".")[0] or name, problem)


def _environment(data: Path) -> Any:
    """The open environment of a ``data.mdb`` that is whole; opened again where the file or the process is another."""
    status = data.stat()
    stamp = (os.getpid(), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    folder, data = data.parent, data.resolve()  # one name for a file that links lead to
    known, environment = _OPEN.get(data, (None, None))
    if known == stamp:
        return environment
    if environment is not None:
        del _OPEN[data]
        environment.close()  # of another file, or of the process that this one was forked from
    _check_whole(data, status.st_size)
    environment = _require_lmdb(data).open(str(folder), readonly=True, lock=False, readahead=False)
    _OPEN[data] = stamp, environment
    return environment


def _check_whole(data: Path, size: int) -> None:
    """Compare the size of a ``data.mdb`` with what its header asks for, by ordinary reads.

    Raises:
        ValueError: The file is shorter, or has no such header.
    """
    with data.open("rb") as file:
        head = file.read(_META.size)
        if len(head) < _META.size:
            raise ValueError(
                f"{data} is cut short: it has {size} bytes, less than the header of an LMDB; copy it again"
            )
        magic, version, page_size, last_page = _META.unpack(head)
        if magic != _MAGIC or version != _VERSION or page_size < _META.size:
            raise ValueError(
                f"{data} is no LMDB that can be read here (its header does not say format {_VERSION}): copy it again, "
                "or make it again on this kind of machine"
            )
        file.seek(page_size)
        second = file.read(_META.size)
    if len(second) == _META.size:
        # The two pages take turns; the newer one is right, and no file shrinks.
        magic, _, _, last_of_second = _META.unpack(second)
        last_page = max(last_page, last_of_second if magic == _MAGIC else 0)
    needed = (max(last_page, 1) + 1) * page_size
    if size < needed:
        raise ValueError(f"{data} is cut short: it has {size} of the {needed} bytes its header asks for; copy it again")


def _require_lmdb(path: Path) -> ModuleType:
    try:
        import lmdb
    except ImportError as error:
        raise ImportError(
            f"{path} is an LMDB, and the package lmdb is not installed: run `pip install lmdb`"
        ) from error
    return lmdb
