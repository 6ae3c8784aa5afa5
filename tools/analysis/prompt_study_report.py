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
    controls="Controls: does the model read its prompt?",
)


class Score(NamedTuple):
    """All scores of one task with one setting and one seed."""

    task: str
    setting: Setting
    seed: int
    results: dict[str, float]


def primary_metric(scores: Sequence[Score]) -> dict[str, str]:
    """The metric that stands for each task: the first one of which it is known which way it counts.

    Raises:
        ValueError: A task has none.
    """
    metrics = {}
    for score in scores:
        names = [name for name in score.results if not split_result(name)[0] and higher_is_better(name) is not None]
        if not names:
            raise ValueError(f"task '{score.task}' has no metric that is known to grow or fall: {list(score.results)}")
        metrics.setdefault(score.task, names[0])
    return metrics


def markdown(scores: Sequence[Score], num_samples: int) -> str:
    """Tables as Markdown, one for each part."""
    metrics, seeds = primary_metric(scores), sorted({score.seed for score in scores})
    header = ["", *(f"{task}: {name.rpartition('/')[2]}" for task, name in metrics.items())]
    texts = [
        f"At most {num_samples} queries of each task; mean ± standard deviation over the prompts of "
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))}), where seeds choose them."
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
    """A row of plots for each task: curves over pairs and prompts, bars of choices, orders and controls."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    metrics = primary_metric(scores)
    figure, axes = plt.subplots(
        len(metrics), len(PARTS), figsize=(3.6 * len(PARTS), 3.2 * len(metrics)), constrained_layout=True, squeeze=False
    )
    for row, (task, metric) in zip(axes, metrics.items(), strict=True):
        for axis, part in zip(row, PARTS, strict=True):
            points = _points(scores, task, part, metric)
            curve = [(x, values) for x, _, values in points if x is not None] if part in ("pairs", "ensembles") else []
            if len(curve) > 1:
                curve.sort(key=lambda point: point[0])
                axis.plot([x for x, _ in curve], [statistics.fmean(values) for _, values in curve], color="C0")
                for x, values in curve:
                    axis.scatter([x] * len(values), values, color="C0", s=12)
                axis.set_xlabel("pairs" if part == "pairs" else f"prompts ({_rows(scores, part)[0]} each)", fontsize=8)
                axis.set_xticks([x for x, _ in curve])
            bars = [(name, values) for x, name, values in points if not (len(curve) > 1 and x is not None)]
            _bars(axis, bars, start=curve[-1][0] + 1 if len(curve) > 1 else 0, curve=bool(len(curve) > 1))
            for name, value, style in _references(scores, task, metric):
                axis.axhline(value, color="gray", linestyle=style, linewidth=1, label=name)
            axis.set_title(f"{task}: {TITLES[part].partition(':')[0].lower()}", fontsize=9)
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=7)
        row[0].set_ylabel(metric.rpartition("/")[2])
    axes[0, 0].legend(fontsize=6)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _bars(axis: Any, bars: Sequence[tuple[str, list[float]]], start: float, curve: bool) -> None:
    for number, (name, values) in enumerate(bars):
        axis.scatter([start + number] * len(values), values, color=f"C{1 + number}", s=14, marker="s")
        axis.annotate(
            name,
            (start + number, statistics.fmean(values)),
            fontsize=6,
            rotation=90,
            xytext=(-6, 0),
            textcoords="offset points",
            ha="center",
            va="center",
        )
    if bars and not curve:
        axis.set_xticks([])
        axis.set_xlim(-0.8, len(bars) - 0.4)


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
        x = 1 if setting.part == "base" and part == "ensembles" else setting.x
        if values := _values(scores, task, name, metric):
            points.append((x, name, values))
    return points
