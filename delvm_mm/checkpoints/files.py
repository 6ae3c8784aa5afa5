"""Files that are never half written: the one place that writes under another name, syncs and renames."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["put_in_place", "temporary_beside", "write_atomically"]


def write_atomically(path: str | Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write so that, whenever the process or the machine stops, the file is its old self or complete.

    Args:
        path: The file, in a folder that is there.
        content: What it is to hold, or a function that writes it to a file open for writing.

    Raises:
        OSError: If it cannot be written; what was there before is kept.
    """
    path = Path(path)
    # Of this process, so that another one may write the same file; short, as names have at most 255 bytes.
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
        put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_beside(path: str | Path) -> Iterator[Path]:
    """A hidden name beside a file or folder that takes long to write, for :func:`put_in_place` at the end.

    What a run that was killed has left under the name is deleted at the beginning, what is still there at the end, too.

    Yields:
        The name; nothing is there yet.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    delete(temporary)
    try:
        yield temporary
    finally:
        delete(temporary)


def put_in_place(temporary: str | Path, path: str | Path) -> None:
    """Give a file, or folder of files, its name once its content is on the disk.

    Where a folder replaces one that is not empty, there is a moment in which neither has the name.
    """
    temporary, path = Path(temporary), Path(path)
    for entry in [*temporary.rglob("*"), temporary]:  # of a folder, the names in it too
        _sync(entry)
    if temporary.is_dir() and path.is_dir():
        outdated = path.with_name(f".{path.name}.old")
        shutil.rmtree(outdated, ignore_errors=True)
        os.replace(path, outdated)
        os.replace(temporary, path)
        shutil.rmtree(outdated)
    else:
        os.replace(temporary, path)
    _sync(path.parent)


def delete(path: str | Path) -> None:
    """Remove a file or folder, if it is there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)  # several processes may
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
