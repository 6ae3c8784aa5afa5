"""Where the images and annotations of archives lie, found once and kept in files that all processes map into memory.

A file for each archive: one line of JSON, padded with blanks, and rows that numpy reads
(``np.memmap(file, row_dtype(stem_bytes), "r", offset=HEADER_BYTES)``). It belongs to an archive of one size and time of
change, and is made anew when the archive has others.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import numpy as np

from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.datasets.readers.io.tar import index_tar

__all__ = ["ArchiveEntries", "ArchiveIndex", "index_archives"]

FORMAT = dict(format="delvm_mm.archive_index", version=1)
HEADER_BYTES = 512
FOLDER = ".archive_index"
LOCK = ".lock"
Place = tuple[int, int]
# Where each file lies, by name -> stem, and where image and annotation lie, of each sample in order.
FindPairs = Callable[[dict[str, Place]], list[tuple[str, Place | None, Place | None]]]


def row_dtype(stem_bytes: int) -> np.dtype:
    """A row: the stem of the names in UTF-8, and offset and size of both files; a size of -1 where there is none."""
    places = [(f"{part}_{what}", "<i8") for part in ("image", "annotation") for what in ("offset", "size")]
    return np.dtype([*places, ("stem", f"S{stem_bytes}")])


@dataclass
class ArchiveIndex:
    """What lies where in one archive.

    Attributes:
        archive: Its path.
        rows: Of :func:`row_dtype`, in the order of the samples. Another process maps them from the file.
        damage: What is wrong with the archive; None if it is whole.
        file: Where the rows are kept; None where no folder can be written.
    """

    archive: str
    rows: np.ndarray
    damage: str | None
    file: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the rows that a file has."""
        return self.__dict__ | ({} if self.file is None else dict(rows=None))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.rows is None:
            self.rows = _read(self.file)[1]


class ArchiveEntries(Sequence):
    """Samples of archives, made when they are asked for; in memory is a number of four bytes for each that was chosen.

    Args:
        indices: Of the archives, in order.
        chosen: Positions in all rows, one archive's behind the other's; all by default.
    """

    def __init__(self, indices: Sequence[ArchiveIndex], chosen: np.ndarray | None = None) -> None:
        self._indices = list(indices)
        self._ends = np.cumsum([len(index.rows) for index in self._indices])
        total = int(self._ends[-1]) if len(self._ends) else 0
        self._chosen = np.arange(total, dtype=np.uint32) if chosen is None else np.asarray(chosen, np.uint32)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, position: int | slice) -> Any:
        if isinstance(position, slice):
            return self.take(position)
        place = int(self._chosen[position])
        number = int(np.searchsorted(self._ends, place, side="right"))
        index = self._indices[number]
        row = index.rows[place - (int(self._ends[number - 1]) if number else 0)]
        places = {part: (int(row[f"{part}_offset"]), int(row[f"{part}_size"])) for part in ("image", "annotation")}
        return {
            "img_path": f"{index.archive}/{row['stem'].decode()}.jpg",
            "archive": index.archive,
            **{part: None if place[1] < 0 else place for part, place in places.items()},
        }

    def take(self, positions: Any) -> "ArchiveEntries":
        """Those at some positions: what numpy takes as an index."""
        return ArchiveEntries(self._indices, self._chosen[positions])

    def numbers(self, prefix: str) -> np.ndarray:
        """The number behind a prefix in each sample's name, -1 where it has another name; int64."""
        parts = [_numbers(index.rows["stem"], prefix) for index in self._indices]
        numbers = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return numbers if len(numbers) == len(self._chosen) else numbers[self._chosen]


def index_archives(
    archives: Sequence[Path],
    find_pairs: FindPairs,
    folder: str | Path | None = None,
    show: Callable[[int, int], None] | None = None,
) -> list[ArchiveIndex]:
    """The indices of archives; those that are not kept yet, or are of an archive that has changed, are made.

    One process makes them, others wait for it.

    Args:
        archives: Their paths.
        find_pairs: Finds what belongs together among their files.
        folder: Where to keep the indices. Defaults to ``.archive_index`` beside the archives, or, where that cannot be
            written, to one in the user's cache.
        show: Called with (made, to make) before each archive that is to be read.

    Returns:
        In the order of ``archives``. Where no folder can be written, they are in memory alone.

    Raises:
        OSError: An archive cannot be read.
        ValueError: Two files in an archive have one name.
    """
    folders = [Path(folder)] if folder is not None else _default_folders(archives)
    for place in folders:
        kept = [_kept(archive, place) for archive in archives]
        if None not in kept:
            return kept
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock = open(place / LOCK, "a", encoding="utf-8")  # noqa: SIM115 - closed below
        except OSError:  # not ours, or on a file system that is read-only
            continue
        with lock:
            with suppress(OSError):  # a file system without locks: all processes make the same
                fcntl and fcntl.flock(lock, fcntl.LOCK_EX)
            return _make(archives, find_pairs, place, show)
    return [_scan(archive, find_pairs) for archive in archives]


def _make(archives: Sequence[Path], find_pairs: FindPairs, folder: Path, show: Any) -> list[ArchiveIndex]:
    indices = [_kept(archive, folder) for archive in archives]
    missing = [position for position, index in enumerate(indices) if index is None]
    for done, position in enumerate(missing):
        if show is not None:
            show(done, len(missing))
        indices[position] = _scan(archives[position], find_pairs, _file_of(archives[position], folder))
    return indices


def _scan(archive: Path, find_pairs: FindPairs, file: Path | None = None) -> ArchiveIndex:
    before = os.stat(archive)
    members, damage = index_tar(archive)
    pairs = find_pairs(members)
    stem_bytes = max([len(stem.encode()) for stem, _, _ in pairs], default=1)
    nowhere = -1, -1
    values = [(*(image or nowhere), *(annotation or nowhere), stem.encode()) for stem, image, annotation in pairs]
    rows = np.array(values, row_dtype(stem_bytes))
    if file is None:
        return ArchiveIndex(str(archive), rows, damage)
    header = _identity(before) | dict(damage=damage, rows=len(rows), stem_bytes=stem_bytes)
    text = json.dumps(FORMAT | header).encode()
    if len(text) >= HEADER_BYTES:  # a long account of the damage
        text = json.dumps(FORMAT | header | dict(damage=damage[:100])).encode()
    write_atomically(file, text.ljust(HEADER_BYTES - 1) + b"\n" + rows.tobytes())
    return ArchiveIndex(str(archive), _read(file)[1], damage, file)


def _kept(archive: Path, folder: Path) -> ArchiveIndex | None:
    file = _file_of(archive, folder)
    try:
        header, rows = _read(file)
    except (OSError, ValueError, KeyError, TypeError):  # none, of another version, or cut
        return None
    if _identity(os.stat(archive)).items() <= header.items():
        return ArchiveIndex(str(archive), rows, header["damage"], file)
    return None


def _read(file: Path) -> tuple[Mapping[str, Any], np.ndarray]:
    with open(file, "rb") as opened:
        header = json.loads(opened.read(HEADER_BYTES))
    if not FORMAT.items() <= header.items():
        raise ValueError(f"{file} is no index of this version")
    dtype = row_dtype(header["stem_bytes"])
    if os.path.getsize(file) != HEADER_BYTES + header["rows"] * dtype.itemsize:
        raise ValueError(f"{file} is cut")
    if not header["rows"]:
        return header, np.empty(0, dtype)
    return header, np.memmap(file, dtype, "r", HEADER_BYTES, (header["rows"],))


def _identity(status: os.stat_result) -> dict[str, int]:
    return dict(size=status.st_size, mtime_ns=status.st_mtime_ns)


def _file_of(archive: Path, folder: Path) -> Path:
    return folder / f"{archive.name}.index"


def _default_folders(archives: Sequence[Path]) -> list[Path]:
    if not archives:
        return []
    root = archives[0].absolute().parent
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return [root / FOLDER, cache / "delvm_mm" / "archive_index" / name]


def _numbers(stems: np.ndarray, prefix: str) -> np.ndarray:
    numbers = np.full(len(stems), -1, np.int64)
    names = np.char.rpartition(stems, b"/")[:, 2] if len(stems) else stems
    is_number = np.char.startswith(names, prefix.encode())
    digits = np.char.lstrip(names[is_number], prefix.encode()) if is_number.any() else names[:0]
    whole = np.char.isdigit(digits) if len(digits) else np.zeros(0, bool)
    positions = np.flatnonzero(is_number)[whole]
    numbers[positions] = digits[whole].astype(np.int64)
    return numbers
