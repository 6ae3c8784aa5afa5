"""Progress as it is shown on a terminal and in a log."""

import io
import time

import pytest
from rich.console import Console

from delvm_mm import progress
from delvm_mm.progress import progress_of, tracked


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_from_time_to_time_with_rate_and_time_left(clock):
    out = Console(file=io.StringIO(), width=40)
    with progress_of("a store", "clips", out, seconds=10) as show:
        show(100, 400)  # of an earlier run: it does not count in the rate
        for clock[0], done in ((5, 110), (10, 150), (12, 160), (20, 200)):
            show(done, 400, "[loss] 1.5")
    assert out.file.getvalue().splitlines() == [
        "a store: 150/400 clips, 5.0 clips/s, 0:00:50 left  [loss] 1.5",
        "a store: 200/400 clips, 5.0 clips/s, 0:00:40 left  [loss] 1.5",
    ]


def test_a_terminal_gets_a_bar_with_the_same_numbers():
    out = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with progress_of("a store", "clips", out) as show:
        for done in (1, 2, 4):
            show(done, 4, "[loss] 1.5")
            time.sleep(0.02)
    last = next(line for line in reversed(out.file.getvalue().splitlines()) if "a store" in line)
    for text in ("4/4", "clips/s", "[loss] 1.5"):
        assert text in last


def test_other_processes_show_nothing(monkeypatch, clock):
    monkeypatch.setattr(progress, "is_main_process", lambda: False)
    out = Console(file=io.StringIO())
    with progress_of("a store", "clips", out, seconds=0) as show:
        show(0, 4)
        clock[0] = 1
        show(2, 4, "a note")
    assert out.file.getvalue() == ""


def test_a_sequence_that_is_tracked_is_given_item_by_item():
    assert list(tracked("abc", "letters", "letters")) == ["a", "b", "c"]
