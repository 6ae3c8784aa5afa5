"""Tools that run other tools one after another: as processes with a log, whose trainings are followed by their scalars.

What is finished is noted with a digest of what it was asked for, so that it is made once and never mixed with others.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from delvm_mm.pretrained import resolve_shipped

__all__ = ["digest", "merged_config", "run_tool", "training_records", "training_state"]

WATCH_SECONDS = 1.0
LINES_SHOWN = 15  # of the log of a tool that failed


def run_tool(arguments: Sequence[Any], log: Path | None = None, watch: Callable[[], None] | None = None) -> None:
    """Run a Python tool to its end, in a process of its own.

    Args:
        arguments: Of ``python``: the path of the tool, and the tool's own.
        log: File that its output is added to. By default it goes where this process's goes.
        watch: Called every second and at the end.

    Raises:
        SystemExit: If it failed, with the end of its log.
    """
    command = [sys.executable, *map(str, arguments)]
    if log is None:
        code = subprocess.run(command).returncode
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
            try:
                code = _watched(process, watch)
            except BaseException:
                # A signal may have reached this process alone; the tool must not go on beside the next run.
                process.kill()
                raise
    if code:
        lines = [] if log is None else log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
        told = [*lines, *([] if log is None else [f"the whole log: {log}"])]
        sys.exit("\n".join([*told, f"failed: {' '.join(command)}", "run the same command again to go on"]))


def _watched(process: subprocess.Popen, watch: Callable[[], None] | None) -> int:
    while True:
        try:
            return process.wait(WATCH_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if watch is not None:
                watch()


def training_records(folder: Path) -> list[dict[str, Any]]:
    """All that a training has logged so far, of all its runs, one after another.

    Args:
        folder: Its work folder, with ``<time>/vis_data/scalars.json`` of each run.

    Returns:
        As MMEngine writes them: those of steps have ``loss`` and ``step``, those of validations the metrics and
        ``step``.
    """
    lines = [
        line
        for path in sorted(folder.glob("*/vis_data/scalars.json"))
        for line in path.read_text().splitlines(keepends=True)
    ]
    return [json.loads(line) for line in lines if line.endswith("\n")]  # a killed process may leave half a line


def training_state(folder: Path) -> tuple[int, str]:
    """The last step of a training that is logged, 0 if there is none, and its losses and rate in words."""
    steps = [record for record in training_records(folder) if "loss" in record]
    if not steps:
        return 0, "starting"
    shown = [
        f"{key} {steps[-1][key]:.4g}" for key in ("loss", "loss_ce", "loss_kd", "tokens_per_s") if key in steps[-1]
    ]
    return steps[-1]["step"], "  ".join(shown)


def merged_config(config: Path, options: Sequence[str]) -> Config:
    """A config with options as they stand on the command line, ``key=value``, in it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(parser.parse_args(["--cfg-options", *options]).cfg_options if options else {})
    return cfg


def digest(*asked: str, shipped: Sequence[str] = ("delvm_mm://mini_tokenizer",)) -> str:
    """16 hexadecimal digits of what a run was asked for and of the weights that the package carries for it."""
    weights = [(resolve_shipped(name) / "model.safetensors").read_bytes() for name in shipped]
    return hashlib.sha256(b"".join(["".join(asked).encode(), *weights])).hexdigest()[:16]
