"""Files that are never half written."""

import os
import shutil
from pathlib import Path


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write so that, whenever the process or the machine stops, the file is its old self or complete.

    Raises:
        OSError: If it cannot be written; what was there before is kept.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        put_in_place(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def put_in_place(temporary: str | Path, path: str | Path) -> None:
    """Give a file, or folder of files, its name once its content is on the disk."""
    temporary, path = Path(temporary), Path(path)
    for file in [temporary] if temporary.is_file() else [entry for entry in temporary.rglob("*") if entry.is_file()]:
        _sync(file)
    if temporary.is_dir() and path.is_dir():
        # A folder does not replace one that is not empty.
        outdated = path.with_name(f".{path.name}.old")
        shutil.rmtree(outdated, ignore_errors=True)
        os.replace(path, outdated)
        os.replace(temporary, path)
        shutil.rmtree(outdated)
    else:
        os.replace(temporary, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
