"""What the runs of compare_recipes.py say: tables, a plot, and every number in a CSV file."""

import csv
import io
import math
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from delvm_mm.engine.tool_runs import training_records
from documents import markdown_table, replace_block, write_text

TASKS = ("seg", "pose", "derain")
QUESTIONS = [
    ("resample", "mixture"),
    ("augment", "mixture"),
    ("augment", "resample"),
    ("augment + KD", "augment"),
    ("augment + cached KD", "augment"),
    ("augment + cached KD", "augment + KD"),
]
"""Pairs of recipes that are compared seed by seed."""
COLUMNS = ("label/loss", "label/accuracy", "label/perplexity", "label/unigram_entropy", "loss", "accuracy")
"""Metrics of TokenMetric that the CSV file holds, with _ for /."""


class Result(NamedTuple):
    """Validation of one training.

    Attributes:
        recipe, seed: What was trained.
        validation: Step -> metrics of TokenMetric, such as 'pose/label/loss'.
        step_seconds: Median time of a step.
    """

    recipe: str
    seed: int
    validation: dict[int, dict[str, float]]
    step_seconds: float

    @property
    def last(self) -> dict[str, float]:
        """Metrics at the end."""
        return self.validation[max(self.validation)]

    def label_losses(self, step: int | None = None) -> dict[str, float]:
        """Loss of label tokens in nats, by task and their mean; by default at the end."""
        metrics = self.last if step is None else self.validation[step]
        losses = {task: metrics[f"{task}/label/loss"] for task in TASKS}
        return losses | {"mean": statistics.mean(losses.values())}


def collect(folder: Path, recipe: str, seed: int) -> Result:
    """Read the logs of a training, which may have been interrupted and resumed."""
    validation, seconds = {}, {}
    for record in training_records(folder):
        if "token/loss" in record:
            metrics = {key.removeprefix("token/"): value for key, value in record.items() if "token/" in key}
            # Logs of MMEngine's own LogProcessor hold means of several validations as the losses; these are exact.
            exact = {key: math.log(value) for key, value in metrics.items() if key.endswith("perplexity")}
            validation[record["step"]] = metrics | {
                key.removesuffix("perplexity") + "loss": value for key, value in exact.items()
            }
        elif "loss" in record:
            seconds[record["step"]] = record["time"]
    if not validation:
        raise ValueError(f"the logs in {folder} hold no validation; delete the folder and train again")
    return Result(recipe, seed, validation, statistics.median(seconds.values()) if seconds else float("nan"))


def report(runs: Sequence[Result], teacher: Result, folder: Path, console: Console) -> str:
    """Print the tables; write them with the plot and all numbers into a folder.

    Returns:
        The tables as Markdown.
    """
    tables = [recipe_table(runs, teacher), question_table(runs)]
    for title, header, rows in tables:
        table = Table(*header, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    text = "\n\n".join(f"{title}:\n\n{markdown_table(header, rows)}" for title, header, rows in tables)
    write_text(folder / "comparison.csv", csv_text([*runs, teacher]))
    draw(runs, folder / "comparison.png")
    console.print(f"plot and every number: {folder / 'comparison.png'}, {folder / 'comparison.csv'}")
    return text


def put_into_docs(text: str, folder: Path, docs: Path) -> None:
    """Put tables, plot and numbers of a finished comparison into the documentation."""
    replace_block(docs / "comparison.md", "compare_recipes.py", text)
    (docs / "data").mkdir(exist_ok=True)
    shutil.copyfile(folder / "comparison.csv", docs / "data" / "comparison.csv")
    shutil.copyfile(folder / "comparison.png", docs / "comparison.png")


def recipe_table(runs: Sequence[Result], teacher: Result) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows: perplexity of label tokens after the last step, by recipe."""
    rows = []
    for recipe, results in _by_recipe(runs).items():
        losses = [result.label_losses() for result in results]
        perplexities = [_spread([np.exp(loss[task]) for loss in losses], 1) for task in TASKS]
        mean = _spread([loss["mean"] for loss in losses], 3)
        rows.append(
            [recipe, *perplexities, mean, f"{statistics.median(result.step_seconds for result in results):.2f}"]
        )
    losses = teacher.label_losses()
    rows.append(
        [
            "(teacher)",
            *(f"{np.exp(losses[task]):.1f}" for task in TASKS),
            f"{losses['mean']:.3f}",
            f"{teacher.step_seconds:.2f}",
        ]
    )
    entropies = [teacher.last[f"{task}/label/unigram_entropy"] for task in TASKS]
    rows.append(
        [
            "(frequency of codes)",
            *(f"{np.exp(value):.1f}" for value in entropies),
            f"{statistics.mean(entropies):.3f}",
            "",
        ]
    )
    seeds = len({result.seed for result in runs})
    title = f"Perplexity of the label tokens of held-out scenes, mean ± standard deviation of {seeds} seeds"
    return title, ["recipe", *TASKS, "mean loss (nats)", "s a step"], rows


def question_table(runs: Sequence[Result]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows: differences of label loss between two recipes, seed by seed."""
    results = {(result.recipe, result.seed): result.label_losses() for result in runs}
    rows = []
    for first, second in QUESTIONS:
        pairs = [
            (results[first, seed], results[second, seed])
            for recipe, seed in results
            if recipe == first and (second, seed) in results
        ]
        if pairs:
            differences = {key: [a[key] - b[key] for a, b in pairs] for key in (*TASKS, "mean")}
            lower = sum(value < 0 for value in differences["mean"])
            shown = [_spread(values, 3, sign="+") for values in differences.values()]
            rows.append([f"{first} − {second}", *shown, f"{lower} of {len(pairs)}"])
    title = "Difference of label loss in nats, the same seeds; below 0 the first is better"
    return title, ["", *TASKS, "mean", "seeds in which the first is better"], rows


def csv_text(results: Sequence[Result]) -> str:
    """Every validation of every run, a row for each task and for all together."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["recipe", "seed", "step", "task", *(name.replace("/", "_") for name in COLUMNS)])
    for result in results:
        for step, metrics in sorted(result.validation.items()):
            for task in (*TASKS, "all"):
                prefix = "" if task == "all" else f"{task}/"
                values = (f"{metrics[prefix + name]:.5f}" for name in COLUMNS)
                writer.writerow([result.recipe, result.seed, step, task, *values])
    return stream.getvalue()


def read_csv(path: Path) -> list[Result]:
    """What :func:`csv_text` wrote of each training; how long its steps took is not in it."""
    validations = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            metrics = validations.setdefault((row["recipe"], int(row["seed"])), {}).setdefault(int(row["step"]), {})
            prefix = "" if row["task"] == "all" else f"{row['task']}/"
            metrics |= {prefix + name: float(row[name.replace("/", "_")]) for name in COLUMNS}
    return [Result(*key, validation, float("nan")) for key, validation in validations.items()]


def draw(runs: Sequence[Result], path: Path) -> None:
    """Label loss over the steps, and at the end for each seed, by task."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    recipes = _by_recipe(runs)
    figure, axes = plt.subplots(2, len(TASKS) + 1, figsize=(15, 6.4), constrained_layout=True)
    for column, key in enumerate((*TASKS, "mean")):
        curves, ends = axes[0, column], axes[1, column]
        for place, (recipe, results) in enumerate(recipes.items()):
            color = f"C{place}"
            steps = sorted(set.intersection(*(set(result.validation) for result in results)))
            losses = np.array([[result.label_losses(step)[key] for step in steps] for result in results])
            curves.plot(steps, losses.mean(0), color=color, marker="o", markersize=3, label=recipe)
            curves.fill_between(steps, losses.min(0), losses.max(0), color=color, alpha=0.2, linewidth=0)
            ends.scatter([place] * len(losses), losses[:, -1], color=color, s=18)
            ends.plot([place - 0.3, place + 0.3], [losses[:, -1].mean()] * 2, color=color)
        curves.set_title("mean of the tasks" if key == "mean" else key)
        curves.set_xlabel("step")
        ends.set_xticks(range(len(recipes)), recipes, rotation=20)
        for axis in (curves, ends):
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("label loss, held out (nats)")
    axes[1, 0].set_ylabel("after the last step, each seed")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _by_recipe(runs: Sequence[Result]) -> dict[str, list[Result]]:
    names = dict.fromkeys(result.recipe for result in runs)
    return {name: [result for result in runs if result.recipe == name] for name in names}


def _spread(values: Sequence[float], digits: int, sign: str = "") -> str:
    """Mean ± standard deviation; the mean alone of one value."""
    mean = f"{statistics.mean(values):{sign}.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
