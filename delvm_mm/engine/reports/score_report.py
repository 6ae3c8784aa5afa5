"""A report of scores as one HTML page that needs nothing else: tables, classes, and panels, the worst answers first."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from delvm_mm.evaluation.trivial_answers import TRIVIAL_ANSWERS, defeats, higher_is_better, split_result

__all__ = ["Answer", "TaskScores", "render_report"]

LARGE = 600_000  # pixels of a panel above which it is packed with loss
BINS = 24
STYLE = """
:root {color-scheme: light dark; --line: #8886; --dim: #8888; --bar: #5b6cc4; --bad: #c0392b}
body {font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; max-width: 1160px; margin: 0 auto;
  padding: 12px}
h1 {font-size: 1.5em} h2 {margin-top: 2em; border-bottom: 1px solid var(--line)}
.wide {overflow-x: auto}
table {border-collapse: collapse; font-variant-numeric: tabular-nums}
th, td {padding: 3px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap}
th:first-child, td:first-child {text-align: left}
td.best {font-weight: 600} td.beaten {color: var(--bad); font-weight: 600}
.bar {display: inline-block; height: .7em; background: var(--bar)}
figure {margin: 14px 0} figure img {max-width: 100%; height: auto; image-rendering: pixelated}
figcaption, .dim {color: GrayText}
dl {display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px} dd {margin: 0; overflow-wrap: anywhere}
svg {max-width: 100%}
"""


@dataclass(frozen=True)
class Answer:
    """One answer and what the metrics say of it alone.

    Attributes:
        index: Number of the sample in its data set.
        name: Of its image; may be empty.
        scores: Metric -> score.
        panel: uint8, H x W x 3; None where it is not shown.
    """

    index: int
    name: str
    scores: Mapping[str, float]
    panel: np.ndarray | None = None


@dataclass(frozen=True)
class TaskScores:
    """What the report says of one task.

    Attributes:
        task: Its name.
        metrics: Results of the evaluator, named as it names them.
        prompt: How prompts were chosen, in words; may be empty.
        answers: All of them.
        classes: Title of a table -> name of the class -> (score, number of samples or pixels).
    """

    task: str
    metrics: Mapping[str, Any]
    prompt: str = ""
    answers: Sequence[Answer] = ()
    classes: Mapping[str, Mapping[str, tuple[float, int]]] = field(default_factory=dict)


def sorting_metric(answers: Sequence[Answer]) -> str | None:
    """The metric by which answers are sorted: the first one of which is known which way it counts."""
    names = dict.fromkeys(name for answer in answers for name in answer.scores)
    # A percentage of all pixels tells answers apart least, and mmseg gives it first.
    return min(
        (name for name in names if higher_is_better(name) is not None), key=lambda name: name == "aAcc", default=None
    )


def worst_first(answers: Sequence[Answer]) -> list[Answer]:
    """Answers from the worst to the best; those without a score at the end."""
    metric = sorting_metric(answers)
    if metric is None:
        return list(answers)
    sign = 1 if higher_is_better(metric) else -1
    return sorted(answers, key=lambda answer: (sign * answer.scores.get(metric, math.inf * sign), answer.index))


def render_report(title: str, facts: Mapping[str, str], tasks: Sequence[TaskScores]) -> str:
    """Write the page.

    Args:
        title: Its first line.
        facts: What the scores are of: model, config, machine, ...
        tasks: In the order in which they are shown.

    Returns:
        HTML, with all images in it; it loads nothing and runs no script.
    """
    described = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    links = " · ".join(f'<a href="#{_anchor(one.task)}">{_text(one.task)}</a>' for one in tasks)
    sections = "".join(_section(one) for one in tasks)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{_text(title)}</h1><dl>{described}</dl>{_scores(tasks)}<p>{links}</p>{sections}</body></html>\n"
    )


def _scores(tasks: Sequence[TaskScores]) -> str:
    """The table of all tasks: score, ceiling, trivial answers."""
    split = {one.task: {split_result(key, one.task): value for key, value in one.metrics.items()} for one in tasks}
    given = {whose for values in split.values() for whose, _ in values}
    others = [whose for whose in ("ceiling", *TRIVIAL_ANSWERS) if whose in given]
    titles = [
        "task",
        "metric",
        "score",
        *("tokenizer ceiling" if one == "ceiling" else one.replace("_", " ") for one in others),
    ]
    rows = []
    for one in tasks:
        values = split[one.task]
        for (whose, metric), score in values.items():
            if whose or metric == "images_per_s" or not isinstance(score, int | float):
                continue
            beside = {other: values.get((other, metric)) for other in others}
            beaten = _beaten_by(metric, score, {name: value for name, value in beside.items() if name != "ceiling"})
            cells = [f"<td>{_text(one.task)}</td><td>{_text(metric)}</td><td class=best>{_number(score)}</td>"]
            cells += [
                f"<td{' class=beaten' * (name in beaten)}>{_number(value)}</td>" for name, value in beside.items()
            ]
            rows.append(f"<tr>{''.join(cells)}</tr>")
    explained = "; ".join(
        f"<b>{name.replace('_', ' ')}</b>: {what}" for name, what in TRIVIAL_ANSWERS.items() if name in others
    )
    note = (
        f'<p class="dim">Answers that need no model: {explained}. Red: no worse than the model.</p>'
        if explained
        else ""
    )
    return _table(titles, rows) + note


def _beaten_by(metric: str, score: float, answers: Mapping[str, float | None]) -> set[str]:
    """Trivial answers that are as good as the model."""
    higher = higher_is_better(metric)
    if higher is None:
        return set()
    known = {name: value for name, value in answers.items() if isinstance(value, int | float) and value != -1}
    return {name for name, value in known.items() if (value >= score if higher else value <= score)}


def _section(one: TaskScores) -> str:
    parts = [f'<h2 id="{_anchor(one.task)}">{_text(one.task)}</h2>']
    rate = one.metrics.get(f"{one.task}/images_per_s")
    said = [f"{len(one.answers)} answers"] if one.answers else []
    said += [f"prompts: {one.prompt}"] if one.prompt else []
    said += [f"{rate:.2f} images a second in all"] if rate else []
    parts.append(f"<p>{_text('; '.join(said))}</p>")
    parts += [f"<p>{_text(sentence)}.</p>" for sentence in defeats(one.metrics, one.task)]
    for title, classes in one.classes.items():
        if classes:
            parts.append(_class_table(title, classes))
    metric = sorting_metric(one.answers)
    if metric is not None:
        parts.append(_histogram(metric, [answer.scores[metric] for answer in one.answers if metric in answer.scores]))
    ordered = worst_first(one.answers)
    shown = [answer for answer in ordered if answer.panel is not None]
    if shown:
        by = f", by {metric} of each alone" if metric else ""
        parts.append(f"<h3>The worst {len(shown)} of {len(ordered)} answers first{_text(by)}</h3>")
        parts += [_figure(answer) for answer in shown]
    if metric is not None:
        names = list(dict.fromkeys(name for answer in ordered for name in answer.scores))
        rows = [
            f"<tr><td>{answer.index}</td><td>{_text(answer.name)}</td>"
            + "".join(f"<td>{_number(answer.scores.get(name))}</td>" for name in names)
            + "</tr>"
            for answer in ordered
        ]
        parts.append(f"<details><summary>all answers</summary>{_table(['sample', 'image', *names], rows)}</details>")
    return "".join(parts)


def _class_table(title: str, classes: Mapping[str, tuple[float, int]]) -> str:
    most = max((score for score, _ in classes.values() if math.isfinite(score)), default=0) or 1
    rows = []
    for name, (score, number) in sorted(classes.items(), key=lambda entry: (math.isnan(entry[1][0]), entry[1][0])):
        bar = "" if math.isnan(score) else f'<span class="bar" style="width:{max(0, 120 * score / most):.0f}px"></span>'
        rows.append(
            f"<tr><td>{_text(name)}</td><td>{_number(score)}</td><td>{number}</td>"
            f'<td style="text-align:left">{bar}</td></tr>'
        )
    return f"<h3>{_text(title)}, the worst first</h3>{_table(['class', 'score', 'counted', ''], rows)}"


def _histogram(metric: str, values: Sequence[float]) -> str:
    counts, edges = np.histogram(values, BINS)
    tallest, width = max(counts.max(), 1), 20
    bars = ""
    for number, count in enumerate(counts):
        height = 96 * count / tallest
        said = f"{edges[number]:.4g} to {edges[number + 1]:.4g}: {count}"
        place = f'x="{number * width + 1}" y="{100 - height:.1f}" width="{width - 2}" height="{height:.1f}"'
        bars += f"<rect {place}><title>{said}</title></rect>"
    ends = (
        f'<text x="0" y="116">{edges[0]:.4g}</text>'
        f'<text x="{BINS * width}" y="116" text-anchor="end">{edges[-1]:.4g}</text>'
    )
    return (
        f"<h3>{_text(metric)} of single answers</h3>"
        f'<svg viewBox="0 0 {BINS * width} 120" width="{BINS * width}" role="img" aria-label="histogram" '
        f'fill="var(--bar)" font-size="13">{bars}<g fill="currentColor">{ends}</g></svg>'
    )


def _figure(answer: Answer) -> str:
    scores = ", ".join(f"{name} {_number(value)}" for name, value in answer.scores.items())
    named = f"{answer.index}: {answer.name}" if answer.name else f"sample {answer.index}"
    return (
        f'<figure><img src="{_data_url(answer.panel)}" alt="panel of {_text(named)}">'
        f"<figcaption>{_text(named)} — {_text(scores)}</figcaption></figure>"
    )


def _data_url(panel: np.ndarray) -> str:
    kind, options = (
        ("JPEG", dict(quality=90)) if panel.shape[0] * panel.shape[1] > LARGE else ("PNG", dict(optimize=True))
    )
    file = io.BytesIO()
    Image.fromarray(panel).save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _table(titles: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{_text(title)}</th>" for title in titles)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _anchor(task: str) -> str:
    return "task-" + "".join(letter if letter.isalnum() else "-" for letter in task)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "" if value is None else _text(str(value))


def _text(text: str) -> str:
    return html.escape(text.encode(errors="backslashreplace").decode())
