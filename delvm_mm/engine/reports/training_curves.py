"""What a training has logged, as one image in its work folder."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.engine.tool_runs import training_records
from delvm_mm.visualization import write_image

__all__ = ["collect_curves", "draw_curves", "write_curves"]

CURVES_FILE = "curves.png"
COLUMNS, MAX_AXES = 3, 12
WIDTH, HEIGHT = 4.6, 3.0  # inches of one diagram
# Beside the records' own counters: times and shares of tasks are in the log for those who look for a fault.
LEFT_OUT = ("step", "iter", "epoch", "base_lr", "data_time", "time", "memory")
LEFT_OUT_PREFIXES = ("share/", "data_time", "time/")
DASHED = ("ceiling", "unigram_entropy")
MAX_LABELS = 9  # of one legend

Curves = dict[str, dict[str, list[tuple[int, float]]]]


def write_curves(folder: Path) -> Path | None:
    """Draw all that the runs of a work folder have logged into its ``curves.png``.

    Args:
        folder: With ``<time>/vis_data/scalars.json`` of each run.

    Returns:
        The file; None where nothing is logged, or only one step.
    """
    curves = collect_curves(training_records(folder))
    if not any(len(points) > 1 for lines in curves.values() for points in lines.values()):
        return None
    path = folder / CURVES_FILE
    write_image(path, draw_curves(curves, folder.name))
    return path


def collect_curves(records: Iterable[Mapping[str, Any]]) -> Curves:
    """Sort what was logged into diagrams.

    Args:
        records: As MMEngine writes them, of one run after the other; each has ``step``.

    Returns:
        Title -> name of the line -> (step, value), sorted by step. Of a step that two runs have logged the later one
        counts; what is no finite number is left out, and so are results of trivial answers.
    """
    values: dict[str, dict[int, float]] = {}
    for record in records:
        for key, value in record.items():
            if key in LEFT_OUT or key.startswith(LEFT_OUT_PREFIXES) or "/trivial/" in key:
                continue
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                values.setdefault(key, {})[record["step"]] = value
    curves: Curves = {}
    for key, points in values.items():
        curves.setdefault(_title(key), {})[key] = sorted(points.items())
    return curves


def draw_curves(curves: Curves, name: str = "") -> np.ndarray:
    """Draw a diagram for each title; what a single validation has given is a dot.

    Args:
        curves: At least one; diagrams beyond the twelfth are left out.
        name: Stands above all.

    Returns:
        uint8, H x W x 3.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(curves.items())[:MAX_AXES]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure((columns * WIDTH, rows * HEIGHT + 0.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    if name:
        figure.suptitle(os.fsencode(name).decode(errors="replace"))  # a folder's name may be no UTF-8
    for axes, (title, lines) in zip(figure.subplots(rows, columns, squeeze=False).flat, shown, strict=False):
        _draw_lines(axes, lines)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
    for axes in figure.axes[len(shown) :]:
        axes.set_axis_off()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_lines(axes: Any, lines: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    for number, (label, points) in enumerate(lines.items()):
        steps, values = zip(*points, strict=True)
        style = "--" if any(word in label for word in DASHED) else "-"
        marker = "." if len(points) <= 20 else None
        axes.plot(steps, values, style, marker=marker, linewidth=1.2, label=label if number < MAX_LABELS else None)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)
    if len(lines) > 1:
        axes.legend(fontsize=7)


def _title(key: str) -> str:
    """The diagram of a key: what is measured in the same unit stands together."""
    last = key.rpartition("/")[2]
    if last.startswith("loss") or last.endswith(("_loss", "entropy")):
        return "loss"
    if last.startswith("lr") or key.startswith("lr/"):
        return "learning rate"
    return last.replace("_per_s", " per second").replace("_", " ")
