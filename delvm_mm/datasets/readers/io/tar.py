"""Random access to the files in a ``.tar`` archive, without unpacking it."""

import os
import tarfile
from collections import OrderedDict
from pathlib import Path

__all__ = ["TarReader", "index_tar"]


def index_tar(path: str | Path) -> tuple[dict[str, tuple[int, int]], str | None]:
    """List the files of an uncompressed archive from its headers; the files' content is not read.

    Args:
        path: The archive.

    Returns:
        Where the files lie (offset of the first byte, number of bytes) by name, without a leading './'. And None if the
        archive is whole, else what is wrong with it: then the files before the damage are listed, and the last of them
        may be cut.

    Raises:
        OSError: The archive cannot be opened or read.
        ValueError: Two files in it have one name.
    """
    members: dict[str, tuple[int, int]] = {}
    twice: list[str] = []
    path = Path(path)
    try:
        with tarfile.open(path, "r:") as archive:
            for entry in archive:
                if entry.size < 0:  # tarfile would go back, and find the same entries again and again
                    return members, f"is damaged at byte {entry.offset}"
                if entry.isfile():
                    name = entry.name.removeprefix("./")
                    twice += [name] if name in members else []
                    members[name] = (entry.offset_data, entry.size)
            end = archive.offset
    except (tarfile.TarError, EOFError, ValueError) as error:
        return members, f"is no whole tar archive ({error})"
    if twice:
        raise ValueError(f"{path} holds {', '.join(twice[:5])} more than once: keep one of each")
    # Without an error, a header that is damaged or missing ends the list like the block of zeros that ends an archive.
    with open(path, "rb") as file:
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
    if block != bytes(tarfile.BLOCKSIZE):
        return members, f"is cut or damaged at byte {end} of {path.stat().st_size}"
    return members, None


class TarReader:
    """Reads files from archives; each process opens an archive when it first needs it.

    Args:
        max_open: Archives kept open; beyond, the one not used for longest is closed.
    """

    def __init__(self, max_open: int = 32) -> None:
        self.max_open = max_open
        self._files: OrderedDict[str, int] = OrderedDict()

    def read(self, path: str | Path, offset: int, size: int) -> bytes:
        """Content of a file.

        Args:
            path: The archive.
            offset: Of its first byte in the archive.
            size: Number of bytes.

        Returns:
            ``size`` bytes.

        Raises:
            OSError: The archive cannot be opened or read.
            ValueError: It ends before the file does.
        """
        descriptor = self._open(str(path))
        length = os.fstat(descriptor).st_size
        if offset + size > length:
            raise ValueError(f"{path} ends at byte {length}, the file in it would reach to {offset + size}: it was cut")
        content = bytearray()
        while len(content) < size:
            # Reading at an offset moves no position, so forked processes may share the open file.
            part = os.pread(descriptor, size - len(content), offset + len(content))
            if not part:
                raise ValueError(f"{path} got shorter while it was read")
            content += part
        return bytes(content)

    def close(self) -> None:
        """Close all archives; they are opened again when needed."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict:
        """Without open files, which belong to this process."""
        return {"max_open": self.max_open}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)

    def _open(self, path: str) -> int:
        if path in self._files:
            self._files.move_to_end(path)
        else:
            while len(self._files) >= self.max_open:
                os.close(self._files.popitem(last=False)[1])
            self._files[path] = os.open(path, os.O_RDONLY)
        return self._files[path]
