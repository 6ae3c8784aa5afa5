"""What tools that run for days share: joining the processes of ``torchrun``, and progress with rate and time left."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

LOG_SECONDS = 60  # between two lines where the output is no terminal


@contextmanager
def processes_of_torchrun() -> Iterator[str | None]:
    """Join the processes that ``torchrun`` started; the GPU of this one, if there are GPUs."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "RANK" not in os.environ:
        yield None
        return
    # The processes only tell each other that they are there; one may be ready days before another.
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
    gpus = torch.cuda.device_count()
    yield f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % gpus}" if gpus else None
    torch.distributed.destroy_process_group()


@contextmanager
def progress_of(name: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a line from time to time elsewhere, with rate and time left; one process shows it.

    Args:
        name: What is being made.
        unit: What is counted, such as 'clips'.

    Yields:
        What to call with (done, total), first with what an earlier run has done.
    """
    console = Console()
    if not is_main_process():
        yield lambda done, total: None
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            row = bar.add_task(name, total=None)

            def show(done: int, total: int) -> None:
                if bar.tasks[row].total is None:
                    # What an earlier run did counts in the bar, not in the rate.
                    bar.reset(row, completed=done, total=total)
                bar.update(row, completed=done)

            yield show
    else:
        yield _LoggedProgress(name, unit)


class _LoggedProgress:
    """Progress in lines, for logs."""

    def __init__(self, name: str, unit: str) -> None:
        self.name, self.unit = name, unit
        self.first: tuple[float, int] | None = None
        self.written = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = now, done
        if now < self.written + LOG_SECONDS or done == self.first[1]:
            return
        self.written = now
        rate = (done - self.first[1]) / (now - self.first[0])
        left = timedelta(seconds=round((total - done) / rate))
        print(f"{self.name}: {done}/{total} {self.unit}, {rate:.1f} {self.unit}/s, {left} left", flush=True)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Any) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self.unit}/s")
