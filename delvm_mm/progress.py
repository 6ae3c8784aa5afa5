"""Progress with rate and time left: a bar on a terminal, a line from time to time elsewhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["progress_of", "tracked"]

LOG_SECONDS = 60  # between two lines where the output is no terminal
Item = TypeVar("Item")


@contextmanager
def progress_of(
    name: str, unit: str, console: Console | None = None, seconds: float = LOG_SECONDS, transient: bool = False
) -> Iterator[Callable[..., None]]:
    """Show how far something is, in the main process alone.

    Args:
        name: What is being made.
        unit: What is counted, such as 'clips'.
        console: Where to show it. Defaults to the standard output.
        seconds: Time between two lines, where the output is no terminal.
        transient: Whether a bar goes away at the end.

    Yields:
        What to call with (done, total), first with what was done before, and by choice with a text that is shown behind
        the numbers.
    """
    console = console or Console()
    if not is_main_process():
        yield lambda done, total, note="": None
    elif console.is_terminal or console.is_jupyter:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(30),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=console, transient=transient) as bar:
            row = bar.add_task(name, total=None, note="")

            def show(done: int, total: int, note: str = "") -> None:
                if bar.tasks[row].total is None:
                    # What an earlier run did counts in the bar, not in the rate.
                    bar.reset(row, completed=done, total=total, note=note)
                bar.update(row, completed=done, total=total, note=note)

            yield show
    else:
        yield _LoggedProgress(name, unit, console, seconds)


def tracked(sequence: Sequence[Item], name: str, unit: str, transient: bool = False) -> Iterator[Item]:
    """Go through a sequence, and show how far.

    Args:
        sequence: What to go through.
        name: See :func:`progress_of`.
        unit: See :func:`progress_of`.
        transient: See :func:`progress_of`.

    Yields:
        Its items.
    """
    with progress_of(name, unit, transient=transient) as show:
        for done, item in enumerate(sequence):
            show(done, len(sequence))
            yield item
        show(len(sequence), len(sequence))


class _LoggedProgress:
    """Progress in lines, for logs."""

    def __init__(self, name: str, unit: str, console: Console, seconds: float) -> None:
        self.name, self.unit, self.console, self.seconds = name, unit, console, seconds
        self.first: tuple[float, int] | None = None
        self.written = time.monotonic()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = now, done
        if now < self.written + self.seconds or done == self.first[1]:
            return
        self.written = now
        rate = (done - self.first[1]) / (now - self.first[0])
        left = timedelta(seconds=round((total - done) / rate))
        text = f"{self.name}: {done}/{total} {self.unit}, {rate:.1f} {self.unit}/s, {left} left"
        self.console.print(f"{text}  {note}".rstrip(), markup=False, highlight=False, soft_wrap=True)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Any) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self.unit}/s")
