"""Runs that are killed, and what they leave."""

import contextlib
import os
import signal
from pathlib import Path


def contents(folder):
    """Bytes of each file of a folder."""
    return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def kill(pid):
    """Kill a process and all it started; torchrun's workers are in sessions of their own."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    started = children.read_text().split() if children.exists() else []
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for child in started:
        kill(int(child))
