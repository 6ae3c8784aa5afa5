"""Print the path of an sdist of xtcocotools whose ``setup.py`` runs on every Python.

The one on PyPI reads its version from ``locals()`` after ``exec``, which finds nothing there from Python 3.13 on. pip
runs that file even to download it, so it is fetched here, from the index that pip would ask.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

NAME = "xtcocotools-1.14.3"
SHA256 = "6434382784d206204d2a1b491dba359ff3464a2b9eb5890fbc0d868cad4e810f"
FAULT = "exec(compile(f.read(), version_file, 'exec'))"
MENDED = "exec(compile(f.read(), version_file, 'exec'), globals())"


def index_url() -> str:
    """The package index that pip is told to use, PyPI by default."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    found = os.environ.get("PIP_INDEX_URL") or subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    return (found or "https://pypi.org/simple").rstrip("/")


def fetch() -> bytes:
    """The published sdist, checked against its digest."""
    page = f"{index_url()}/xtcocotools/"
    with urllib.request.urlopen(page, timeout=60) as answer:
        address = re.search(rf'href="([^"]*{re.escape(NAME)}\.tar\.gz[^"]*)"', answer.read().decode())
    if address is None:
        sys.exit(f"error: {page} has no {NAME}.tar.gz; set PIP_INDEX_URL to an index that has it")
    with urllib.request.urlopen(urllib.parse.urljoin(page, address[1]), timeout=60) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != SHA256:
        sys.exit(f"error: {address[1]} is not the {NAME} that was published; use another index")
    return content


def mend(setup: str) -> str:
    """Let ``setup.py`` find the version that it has read."""
    return setup.replace(FAULT, MENDED).replace("locals()[", "globals()[")


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="xtcocotools-"))
    archive = folder / f"{NAME}.tar.gz"
    archive.write_bytes(fetch())
    shutil.unpack_archive(archive, folder)
    setup = folder / NAME / "setup.py"
    setup.write_text(mend(setup.read_text()))
    print(folder / NAME)


if __name__ == "__main__":
    main()
