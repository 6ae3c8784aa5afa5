"""What prompt_study.py found: tables, a plot, and every number."""

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from delvm_mm.evaluation.trivial_answers import TRIVIAL_ANSWERS, higher_is_better, split_result
from documents import markdown_table
from prompt_study_settings import PARTS, Setting

TITLES = dict(
    pairs="Number of pairs",
    selection="Choice of the pairs",
    order="Order of the pairs",
    ensembles="Ensembles",
    controls="Controls, which say whether the model reads its prompt",
)


class Score(NamedTuple):
    """All scores of one task with one setting and one seed."""

    task: str
    setting: Setting
    seed: int
    results: dict[str, float]


def primary_metric(scores: Sequence[Score]) -> dict[str, str]:
    """The metric that stands for each task: the first one of which it is known which way it counts.

    Pixels that are right count only where there is nothing else: most are background.

    Raises:
        ValueError: A task has none.
    """
    metrics = {}
    for score in scores:
        names = [name for name in score.results if not split_result(name)[0] and higher_is_better(name) is not None]
        if not names:
            raise ValueError(f"task '{score.task}' has no metric that is known to grow or fall: {list(score.results)}")
        metrics.setdefault(score.task, next((name for name in names if not name.endswith("Acc")), names[0]))
    return metrics


def markdown(scores: Sequence[Score], num_samples: int) -> str:
    """Tables as Markdown, one for each part."""
    metrics, seeds = primary_metric(scores), sorted({score.seed for score in scores})
    header = ["", *(f"{task}: {name.rpartition('/')[2]}" for task, name in metrics.items())]
    texts = [
        f"At most {num_samples} queries of each task; mean ± standard deviation over the prompts of "
        f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}, where a seed chooses them."
    ]
    reference = [
        ["*tokenizer ceiling*", *(_best(scores, task, metric, ["ceiling"]) for task, metric in metrics.items())],
        ["*best trivial answer*", *(_best(scores, task, metric, TRIVIAL_ANSWERS) for task, metric in metrics.items())],
    ]
    for part in PARTS:
        rows = _rows(scores, part)
        if len(rows) > 1:
            table = [[name, *(_shown(scores, task, name, metrics[task]) for task in metrics)] for name in rows]
            texts.append(f"{TITLES[part]}:\n\n{markdown_table(header, table + reference)}")
    return "\n\n".join(texts)


def csv_text(scores: Sequence[Score]) -> str:
    """Every number, a row each."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["task", "part", "setting", "seed", "metric", "value"])
    for score in scores:
        for name, value in score.results.items():
            writer.writerow([score.task, score.setting.part, score.setting.name, score.seed, name, f"{value:.6g}"])
    return stream.getvalue()


def draw(scores: Sequence[Score], path: Path) -> None:
    """A row of plots for each task: a curve over the number of pairs, and the settings of each other part."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    metrics = primary_metric(scores)
    size = (4.8 * len(PARTS), 2.8 * len(metrics))
    figure, axes = plt.subplots(len(metrics), len(PARTS), figsize=size, constrained_layout=True, squeeze=False)
    for row, (task, metric) in zip(axes, metrics.items(), strict=True):
        for axis, part in zip(row, PARTS, strict=True):
            points = _points(scores, task, part, metric)
            _draw_curve(axis, points) if part == "pairs" else _draw_rows(axis, points)
            line = axis.axhline if part == "pairs" else axis.axvline
            for name, value, style in _references(scores, task, metric):
                line(value, color="gray", linestyle=style, linewidth=1, label=name)
            axis.set_title(f"{task}: {TITLES[part].partition(',')[0].lower()}", fontsize=9)
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=7)
            label = axis.set_ylabel if part == "pairs" else axis.set_xlabel
            label(metric.rpartition("/")[2], fontsize=8)
    axes[0, 0].legend(fontsize=6)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_curve(axis: Any, points: Sequence[tuple[int | None, str, list[float]]]) -> None:
    """Score over the number of pairs: the mean as a line, each seed a point."""
    axis.plot([x for x, _, _ in points], [statistics.fmean(values) for _, _, values in points], color="C0")
    for x, _, values in points:
        axis.scatter([x] * len(values), values, color="C0", s=12)
    axis.set_xticks([x for x, _, _ in points])
    axis.set_xlabel("pairs", fontsize=8)


def _draw_rows(axis: Any, points: Sequence[tuple[int | None, str, list[float]]]) -> None:
    """Settings one under the other: the mean as a bar, each seed a point."""
    for row, (_, _, values) in enumerate(points):
        color = "black" if row == 0 else f"C{row}"
        axis.scatter(values, [row] * len(values), color=color, s=14)
        axis.plot([statistics.fmean(values)] * 2, [row - 0.3, row + 0.3], color=color)
    axis.set_yticks(range(len(points)), [name for _, name, _ in points])
    axis.invert_yaxis()


def _rows(scores: Sequence[Score], part: str) -> list[str]:
    """Names of a part's settings, the one that all are compared with among them; those of 'pairs' by their number."""
    settings = {score.setting.name: score.setting for score in scores if score.setting.part in ("base", part)}
    if part == "pairs":
        return sorted(settings, key=lambda name: settings[name].x)
    return list(settings)


def _values(scores: Sequence[Score], task: str, name: str, metric: str) -> list[float]:
    return [s.results[metric] for s in scores if (s.task, s.setting.name) == (task, name)]


def _shown(scores: Sequence[Score], task: str, name: str, metric: str) -> str:
    values = _values(scores, task, name, metric)
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _references(scores: Sequence[Score], task: str, metric: str) -> list[tuple[str, float, str]]:
    found = []
    for title, names, style in (("tokenizer ceiling", ["ceiling"], "--"), ("best trivial", TRIVIAL_ANSWERS, ":")):
        answers = _answers(scores, task, metric, names)
        if answers:
            best = (max if higher_is_better(metric) else min)(answers.values())
            found.append((title, best, style))
    return found


def _answers(scores: Sequence[Score], task: str, metric: str, names: Sequence[str]) -> dict[str, float]:
    """Mean scores of answers that are not the model's, over the seeds."""
    means = {}
    for name in names:
        key = f"ceiling/{metric}" if name == "ceiling" else f"trivial/{name}/{metric}"
        values = [score.results[key] for score in scores if score.task == task and key in score.results]
        if values:
            means[name] = statistics.fmean(values)
    return means


def _best(scores: Sequence[Score], task: str, metric: str, names: Sequence[str]) -> str:
    answers = _answers(scores, task, metric, names)
    if not answers:
        return "–"
    best = (max if higher_is_better(metric) else min)(answers, key=answers.__getitem__)
    return f"{answers[best]:.2f}" + ("" if best == "ceiling" else f" ({best.replace('_', ' ')})")


def _points(scores: Sequence[Score], task: str, part: str, metric: str) -> list[tuple[int | None, str, list[float]]]:
    """Place on the axis, name and scores of a part's settings."""
    settings = {score.setting.name: score.setting for score in scores if score.setting.part in ("base", part)}
    points = []
    for name in _rows(scores, part):
        setting = settings[name]
        if values := _values(scores, task, name, metric):
            points.append((setting.x, name, values))
    return points
