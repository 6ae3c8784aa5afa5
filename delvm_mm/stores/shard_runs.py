"""Runs that make a folder of shards: shared by processes, kept apart by a lock, continued after a stop."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from mmengine.dist import barrier, broadcast_object_list, get_rank, get_world_size, is_main_process

from delvm_mm.stores.shard_folder_writer import ShardFolderWriter, remove_leftovers

__all__ = ["LOCK_SECONDS", "ShardProgress", "make_shards"]

LOCK_SECONDS = 10  # to wait for another run; the workers of one that was killed hold its lock for a moment
VISIBLE_SECONDS = 60  # until the files of other machines are seen on a shared drive

Writer = TypeVar("Writer", bound=ShardFolderWriter)


class ShardProgress:
    """Items done by this process and, by the shard, by all others.

    Args:
        out: The folder.
        total: Items in all.
        size: Items in a shard.
        callback: Called with (items done, items in all).
    """

    def __init__(self, out: Path, total: int, size: int, callback: Callable[[int, int], None] | None) -> None:
        self.out, self.total, self.size, self.callback = out, total, size, callback
        self.shown = -1
        self.shard_is_finished()

    def show(self, items_of_shard: int) -> None:
        """Report, with so many items of the shard at hand."""
        # Other processes tell by the files they write; a folder on a network is not asked with every batch.
        if get_world_size() > 1 and time.monotonic() > self.looked_at + 1:
            self.shard_is_finished()
        done = min(self.finished * self.size + items_of_shard, self.total)
        if self.callback and done > self.shown:
            self.callback(done, self.total)
            self.shown = done

    def shard_is_finished(self) -> None:
        """Count the shards on disk."""
        self.finished = sum(1 for _ in self.out.glob("shard-*.npy"))
        self.looked_at = time.monotonic()


def make_shards(
    out: Path,
    open_writer: Callable[[], Writer],
    total: int,
    make: Callable[[Writer, list[int], ShardProgress], None],
    progress: Callable[[int, int], None] | None,
    lock_seconds: float,
) -> None:
    """Make the shards of a folder that are not there yet, shared by the processes of ``torch.distributed``.

    Args:
        out: The folder.
        open_writer: Opens its writer, in every process.
        total: Items in all shards together.
        make: Called once in each process with the writer, the numbers of its shards, and what to report to.
        progress: As for :class:`ShardProgress`; called first with what an earlier run has done.
        lock_seconds: How long to wait for another run that holds the lock.

    Raises:
        FileExistsError: Another run is writing the folder, or it was made from other data.
    """
    with _only_run(out, open_writer, lock_seconds) as writer:
        _check_is_of(writer, total)
        finished = set(writer.finished_shards())
        report = ShardProgress(out, total, writer.shard_size, progress)
        report.show(0)
        if writer.complete:
            # A run that was killed in its last step may have left journals.
            writer.finish()
            return
        shards = [number for number in range(math.ceil(total / writer.shard_size)) if number not in finished]
        make(writer, shards[get_rank() :: get_world_size()], report)
        barrier()
        if is_main_process():
            _wait_until(lambda: sum(writer.finished_shards().values()) == total)
            writer.finish()
            report.shard_is_finished()
            report.show(0)
        barrier()


@contextmanager
def _only_run(out: Path, open_writer: Callable[[], Writer], lock_seconds: float) -> Iterator[Writer]:
    """Open the folder in all processes of this run, the main one first, and keep other runs out of it."""
    if not is_main_process():
        broadcast_object_list(failed := [None])
        if failed[0]:
            raise FileExistsError(failed[0])
        yield open_writer()
        return
    # Beside the folder, and never removed: so it can be locked before anything is looked at or written.
    lock = FileLock(out.absolute().parent / f".{out.name}.lock")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=lock_seconds)
        except Timeout as error:
            raise FileExistsError(f"another run is writing {out}: wait for it, or choose another folder") from error
        writer = open_writer()
        remove_leftovers(out)
    except BaseException as error:
        lock.release()
        broadcast_object_list([str(error)])
        raise
    broadcast_object_list([None])
    try:
        yield writer
    finally:
        lock.release()


def _wait_until(condition: Callable[[], bool]) -> None:
    """Wait for files of other machines; what is then still missing is the caller's error to report."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(1)


def _check_is_of(writer: ShardFolderWriter, total: int) -> None:
    """Refuse to continue a folder that other data was written into."""
    finished, size, items = writer.finished_shards(), writer.shard_size, writer.format.items
    expected = {number: min(size, total - number * size) for number in finished}
    if finished != expected or (writer.complete and sum(finished.values()) != total):
        raise FileExistsError(
            f"{writer.path} holds {sum(finished.values())} {items}{' and is complete' if writer.complete else ''}, "
            f"but the dataset has {total}: it was made from other data. Write to another folder, or delete this one"
        )
