"""What a run starts from: the newest checkpoint that is whole, on all processes the same."""

import os
import re
import socket
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.runner import Runner

from delvm_mm.checkpoints.io import load_checkpoint

MARKER = ".run_started"
LOCK = ".run_lock"
_STEP = re.compile(r"^(?:iter|epoch)_(\d+)\.pth$")


@contextmanager
def alone_in(work_dir: str | Path) -> Iterator[None]:
    """Keep a work folder for this process; the lock ends with the process, however that ends.

    Args:
        work_dir: Folder of the run, made if it is not there.

    Raises:
        ValueError: If another run has it.
    """
    os.makedirs(work_dir, exist_ok=True)
    with open(os.path.join(work_dir, LOCK), "a+", encoding="utf-8") as file:
        try:
            # A lock of the process, which workers that it forks, and that live on for seconds, do not share.
            fcntl and fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ValueError(
                f"another run is training in {work_dir} ({file.read().strip() or 'which one is not known'}): wait for "
                "it, or give this one a folder of its own with --work-dir"
            ) from error
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def damage_of(path: str | Path) -> str | None:
    """Why a checkpoint cannot be used, or None if it is whole.

    Every byte of a file is read and compared with its checksum. Of a folder of shards only the part that is not in
    shards is; the shards themselves are checked when they are loaded.

    Args:
        path: A file of ``torch.save``, or the folder of a sharded checkpoint.

    Returns:
        A phrase for a message, or None.
    """
    path = Path(path)
    if path.is_dir():
        if any(path.glob("*.distcp")) and not (path / ".metadata").is_file():
            return "a sharded checkpoint that was not finished"
        if (rest := path / "rest.pth").exists():
            return damage_of(rest)
        return None if any(path.iterdir()) else "an empty folder"
    if not path.is_file():
        return "there is no such file"
    if not path.stat().st_size:
        return "an empty file"
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        return f"cut short or overwritten: {error}"
    return f"damaged: the checksum of {broken} in it is wrong" if broken else None


def find_resumable_checkpoint(work_dir: str | Path, since: float = 0.0) -> tuple[str | None, list[str]]:
    """The newest whole checkpoint of a run: what ``last_checkpoint`` names, or else the one before it.

    Args:
        work_dir: Folder of the run.
        since: Only checkpoints that were written at or after this time. Defaults to 0.

    Returns:
        Path of the checkpoint, None if there is none yet, and what to tell the user.

    Raises:
        ValueError: If there are checkpoints, but none is whole.
    """
    work_dir = Path(work_dir)
    named = _named_by(work_dir / "last_checkpoint")
    notes, damaged = [], []
    for path in _candidates(work_dir, named):
        if path.exists() and path.stat().st_mtime < since:
            continue
        reason = damage_of(path)
        if reason is None:
            if damaged:
                notes.append(f"resuming from {path} instead")
            return str(path), notes
        damaged.append(path)
        notes.append(f"checkpoint {path} is not used: {reason}")
    if damaged:
        raise ValueError(
            f"no checkpoint in {work_dir} is whole ({'; '.join(notes)}); remove them to train from the start, or name "
            "another file with --resume FILE"
        )
    return None, notes


def decide_start(
    runner: Runner, load_from: str | None = None, environment: Mapping[str, str] = os.environ
) -> str | None:
    """Decide, log and set what a runner starts from; the main process looks, and all take what it found.

    A run that was to resume takes the newest whole checkpoint of its work folder, or exactly the file that was named.
    A run that ``torchrun`` started again because a process had died resumes, too, from what it has itself saved.

    Args:
        runner: Before ``train``.
        load_from: The weights that a run begins with where there is nothing to resume from yet.
        environment: With what ``torchrun`` says. Defaults to that of the process.

    Returns:
        A checkpoint to load weights from, or None.

    Raises:
        ValueError: If the file that was named is damaged, or no checkpoint is whole.
    """
    if isinstance(runner._resume, str):  # as FlexibleRunner may have it
        runner._resume, runner._load_from = True, runner._resume
    found: list[object] = [None, [], None]
    if is_main_process():
        try:
            found[:2] = _look(runner, environment)
        except (ValueError, OSError) as error:
            found[2] = error
    broadcast_object_list(found)
    checkpoint, notes, error = found
    if error is not None:
        raise error
    for note in notes:
        runner.logger.warning(note)
    # What Runner.load_or_resume reads; left to itself it would trust last_checkpoint.
    if checkpoint is not None:
        runner._resume, runner._load_from = True, checkpoint
    elif runner._resume and runner._load_from is None:
        runner._resume, runner._load_from = False, load_from
        runner.logger.warning(f"no checkpoint in {runner.work_dir} to resume from: training from the start")
    return runner._load_from


def _look(runner: Runner, environment: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """The checkpoint to resume from, None where the runner's own setting stands, and what to tell."""
    marker = Path(runner.work_dir) / MARKER
    automatic = runner._resume and runner._load_from is None
    restarts = int(environment.get("TORCHELASTIC_RESTART_COUNT", 0))
    notes = []
    if not restarts and int(environment.get("TORCHELASTIC_MAX_RESTARTS", 0)):
        # A restart must not take the checkpoints of an earlier run in the same folder for its own.
        marker.touch()
    if restarts or automatic:
        since = 0.0 if automatic or not marker.exists() else marker.stat().st_mtime
        checkpoint, notes = find_resumable_checkpoint(runner.work_dir, since)
        if restarts:
            what = f"resuming from {checkpoint}" if checkpoint else "there is no checkpoint yet, starting as before"
            notes.append(f"restart {restarts} by torchrun: {what}")
        if checkpoint or automatic:
            return checkpoint, notes
    if runner._resume and (reason := damage_of(runner._load_from)):
        raise ValueError(f"{runner._load_from} is damaged or missing: {reason}; name another, or leave --resume bare")
    if runner._resume and os.path.isfile(runner._load_from):
        missing = [key for key in ("meta", "optimizer") if key not in load_checkpoint(runner._load_from)]
        if missing:
            raise ValueError(
                f"{runner._load_from} has no {missing}: weights alone are not enough to resume from; start a new run "
                "from them with --cfg-options load_from=FILE"
            )
    return None, notes


def _named_by(note: Path) -> Path | None:
    try:
        name = os.fsdecode(note.read_bytes()).strip("\ufeff \r\n")
    except OSError:
        return None
    return Path(name) if name.strip("\0") else None


def _candidates(work_dir: Path, named: Path | None) -> list[Path]:
    """The named checkpoint, then earlier ones; the youngest first where nothing usable is named."""
    folders = {work_dir} | ({named.parent} if named is not None else set())
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir() if _STEP.match(path.name)]
    if named is None or not _STEP.match(named.name):
        others = sorted(found, key=lambda path: (path.stat().st_mtime, _step(path)), reverse=True)
    else:
        # Those of later steps are of another run: checkpoints are named as soon as they are whole.
        others = sorted((path for path in found if _step(path) <= _step(named)), key=_step, reverse=True)
    paths = [named, *others] if named is not None else others
    return list(dict.fromkeys(path.absolute() for path in paths))


def _step(path: Path) -> int:
    return int(_STEP.match(path.name).group(1))
