"""What many archives of SA-1B cost a process: time and memory of a start, by the number of archives.

    python tools/benchmarks/benchmark_archives.py

Archives as SA-1B's are written, of files with little in them: what is measured is finding what lies where. Each line is
a process of its own that opens the first archives of the folder:

- listing: all members by Python's ``tarfile``, and an entry for each image in a list, as a plain reader keeps it;
- first: ``SA1BDataset`` where no archive is known yet, which finds and keeps what lies where;
- later: ``SA1BDataset`` where it is kept; all later starts, and all other processes of a first one.

Memory is what the process has for itself (``Anonymous`` in /proc/self/smaps_rollup), above what it has with one
archive; pages of the kept files, which all processes map together, are listed apart as mapped.
"""

import sys

try:
    import delvm_mm  # noqa: F401
except ImportError as error:  # MMEngine or mmcv is missing or unusable; the message says what to install
    sys.exit(f"error: {error}")

import argparse
import io
import json
import multiprocessing
import os
import shutil
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from delvm_mm.datasets import SA1BDataset
from delvm_mm.engine.launch import user_errors
from delvm_mm.progress import tracked
from machine import machine

CONTENT = b"not decoded here " * 16


def write_archive(path: Path, numbers: range) -> None:
    """An archive of an image and an annotation for each number, neither of which can be decoded."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for number in numbers:
            for suffix in ("jpg", "json"):
                info = tarfile.TarInfo(f"./sa_{number}.{suffix}")
                info.size = len(CONTENT)
                archive.addfile(info, io.BytesIO(CONTENT))


def list_members(folder: Path) -> list[dict[str, Any]]:
    """An entry for each image of the archives, by ``tarfile``."""
    entries = []
    for path in sorted(folder.glob("sa_*.tar")):
        with tarfile.open(path) as archive:
            places = {member.name: (member.offset_data, member.size) for member in archive}
        for name in places:
            if name.endswith(".jpg"):
                image, annotation = places[name], places.get(name[:-4] + ".json")
                entries.append(dict(img_path=f"{path}/{name[2:]}", image=image, annotation=annotation))
    return entries


def memory() -> dict[str, int]:
    """Bytes that this process has for itself, and bytes of files that it maps together with others."""
    kinds: dict[str, int] = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        kinds[name] = int(value.split()[0]) * 1024
    return dict(own=kinds["Anonymous"], mapped=kinds["Rss"] - kinds["Anonymous"])


def start(method: str, folder: str, queue: multiprocessing.Queue) -> None:
    """Open the archives of a folder, and report images, seconds and memory more than before."""
    before, begin = memory(), time.process_time()
    opened = list_members(Path(folder)) if method == "listing" else SA1BDataset(folder)
    seconds, after = time.process_time() - begin, memory()
    grown = {kind: after[kind] - before[kind] for kind in after}
    queue.put(dict(images=len(opened), seconds=seconds, **grown))


def measure(method: str, folder: Path) -> dict[str, Any]:
    """What :func:`start` reports of a process of its own.

    Raises:
        RuntimeError: The process ended early.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=start, args=(method, str(folder), queue))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the process of '{method}' ended with {process.exitcode}: see its message above")
    return queue.get()


def benchmark(folder: Path, counts: list[int], images: int) -> dict[str, Any]:
    """Write the archives, and start with the first ``counts`` of them by each method."""
    results: dict[str, Any] = dict(machine=machine(), images_per_archive=images, rows=[])
    paths = [folder / f"sa_{number:06d}.tar" for number in range(counts[-1])]
    for number, path in enumerate(tracked(paths, "archives", "files")):
        write_archive(path, range(number * images, (number + 1) * images))
    for count in counts:
        some = folder / f"first_{count}"
        some.mkdir()
        for path in paths[:count]:
            os.link(path, some / path.name)
        for method in ("listing", "first", "later"):
            results["rows"].append(dict(archives=count, method=method, **measure(method, some)))
        shutil.rmtree(some)
    return results


def print_results(results: dict[str, Any]) -> None:
    """The table: of each method, with more archives, what one more image takes."""
    table = Table("archives", "method", "CPU s", "µs an image", "times listing", "MiB", "bytes an image more", "mapped")
    rows = results["rows"]
    of = {(row["archives"], row["method"]): row for row in rows}
    fewest = rows[0]["archives"]
    for row in rows:
        least, listing = of[fewest, row["method"]], of[row["archives"], "listing"]
        more = row["images"] - least["images"]
        growth = [f"{(row[kind] - least[kind]) / more:.1f}" if more else "" for kind in ("own", "mapped")]
        table.add_row(
            str(row["archives"]),
            row["method"],
            f"{row['seconds']:.2f}",
            f"{row['seconds'] / row['images'] * 1e6:.1f}",
            f"{row['seconds'] / listing['seconds']:.3f}",
            f"{row['own'] / 2**20:.1f}",
            *growth,
        )
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    console.print(table)
    console.print(results["machine"])


@user_errors
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=int, nargs="+", default=[1, 10, 25, 50], help="numbers of archives to open")
    parser.add_argument("--images", type=int, default=4000, help="images in each (SA-1B: 11 000)")
    parser.add_argument("--dir", help="where to write; a temporary folder by default, deleted at the end")
    parser.add_argument("--out", help="write the figures into this JSON file")
    args = parser.parse_args(arguments)
    if not Path("/proc/self/smaps_rollup").exists():
        raise ValueError("memory is read from /proc/self/smaps_rollup, which this system does not have: use Linux")
    counts = sorted(set(args.archives))
    if counts[0] < 1 or args.images < 1:
        raise ValueError(f"--archives {counts} and --images {args.images}: expected numbers of 1 or more")
    with tempfile.TemporaryDirectory(dir=args.dir, prefix="benchmark_archives-") as folder:
        results = benchmark(Path(folder), counts, args.images)
    print_results(results)
    if args.out:
        Path(args.out).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
