"""The quick start: answers of the shipped model at once, then a small student distilled from it and scored beside it.

The shipped model answers built-in scenes and photographs that scikit-image carries. Then, on built-in scenes and two
CPU cores: they are tokenized with the tokenizer that the package carries, the shipped model writes its predictions
down, a student of three of its layers is trained with and without these, and all three are scored. A step that is
finished is skipped when the command is run again, a training that was interrupted goes on from its last checkpoint.

With --from-scratch nothing is taken over but a tokenizer: a teacher is trained, and a student distilled from it.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from delvm_mm import visualization
from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.engine.tool_runs import digest, merged_config, run_tool, training_records, training_state
from delvm_mm.evaluation.trivial_answers import best_trivial_answers, defeats, split_result
from delvm_mm.hardware import choose_device, has_bfloat16
from delvm_mm.progress import progress_of

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("seg", "pose", "derain")
SHIPPED, FIRST_ANSWERS = "delvm_mm://mini", ROOT / "configs/zoo/first_answers.py"
SECONDS_BETWEEN_LINES = 15  # where the output is no terminal
HEADING, PAPER, INK = 24, (245, 245, 245), (25, 25, 25)  # above a panel: height in pixels, and colors
console = Console(highlight=False)
options: dict[str, list[str]] = {}
"""What is run -> settings that override its config; ``--smoke`` fills it."""
Step = tuple[str, Path, Callable[[], None]]


@dataclass(frozen=True)
class Scored:
    """A model of the table.

    Attributes:
        name: Of its files and, where it is trained here, of its training.
        title: Of its column.
        config: Name of one in the folder of the route.
        weights: As ``tools/test.py`` takes them, 'none' for random ones; by default the last checkpoint of its
            training.
    """

    name: str
    title: str
    config: str
    weights: str | None = None

    @property
    def answers(self) -> bool:
        """Whether its panels are worth a look."""
        return self.weights != "none"


@dataclass(frozen=True)
class Route:
    """One of the ways that the quick start can take.

    Attributes:
        configs: Folder in configs/.
        work: Folder in work_dirs/, where its configs keep everything.
        trainings: Config -> title, in their order.
        scored: Models of the table, in the order of their columns.
        judged: Name of the one that has to beat trivial answers.
        distilled_from_shipped: Whether the shipped model is the teacher.
    """

    configs: str
    work: str
    trainings: dict[str, str]
    scored: tuple[Scored, ...]
    judged: str = "student_kd"
    distilled_from_shipped: bool = False

    @property
    def work_dir(self) -> Path:
        """Of everything that it writes."""
        return Path("work_dirs") / self.work

    def config(self, name: str) -> Path:
        """One of its configs."""
        return ROOT / "configs" / self.configs / f"{name}.py"


def from_scratch(configs: str, work: str) -> Route:
    """A teacher and its student, both trained from nothing on images of 40 pixels."""
    return Route(
        configs,
        work,
        trainings=dict(teacher="train the teacher", student_kd="distil the student"),
        scored=(Scored("untrained", "untrained", "student_kd", "none"), Scored("student_kd", "student", "student_kd")),
    )


ROUTES = dict(
    shipped=Route(
        "quickstart",
        "quickstart",
        trainings=dict(student="train a student without the teacher", student_kd="distil the same student"),
        scored=(
            Scored("student", "student, undistilled", "student"),
            Scored("student_kd", "student, distilled", "student_kd"),
            Scored("mini", "shipped model", "teacher", SHIPPED),
        ),
        distilled_from_shipped=True,
    ),
    scratch=from_scratch("mini", "from_scratch"),
    long=from_scratch("mini_long", "mini_long"),
)


def smoke_settings(route: Route) -> dict[str, list[str]]:
    """Settings with which every step takes seconds."""
    two_steps = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.logger.interval=1"]
    settings = dict.fromkeys(route.trainings, two_steps)
    if not route.distilled_from_shipped:
        teacher = f"default_hooks.distillation.teacher.checkpoint={route.work_dir / 'teacher/iter_2.pth'}"
        settings["student_kd"] = [*two_steps, teacher]
    scenes = [f"tasks.{task}.dataloader.dataset" for task in TASKS]
    lengths = (("support", 4), ("query", 2))
    settings["test"] = [f"{of}.{part}.length={length}" for of in scenes for part, length in lengths]
    photos = ("colorization", "inpainting", "denoising", "deblurring", "edges")
    settings["first_answers"] = [
        *[f"tasks.{task}.dataloader.dataset.query.length=1" for task in TASKS],
        *[f"tasks.{task}.dataloader.dataset.query.dataset.names=[coffee.png]" for task in photos],
    ]
    return settings | dict(tokens=[f"stores.{number}.dataset.length=8" for number in range(2 * len(TASKS))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--from-scratch",
        action="store_true",
        help="train teacher and student from nothing, at 40 pixels, in work_dirs/from_scratch; what an earlier run has "
        "left there is deleted",
    )
    parser.add_argument(
        "--long",
        action="store_true",
        help="the same with a longer schedule (about an hour on 2 cores), in work_dirs/mini_long, which is deleted "
        "only with --from-scratch",
    )
    parser.add_argument("--smoke", action="store_true", help="two steps of everything, to see that it runs")
    parser.add_argument("--folder", type=Path, default=ROOT, help="where work_dirs is made; by default the repository")
    args = parser.parse_args()
    if args.smoke and args.long:
        parser.error("--smoke is of the short schedules: leave --long out")
    route = ROUTES["long" if args.long else "scratch" if args.from_scratch else "shipped"]
    options.update(smoke_settings(route) if args.smoke else {})
    args.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(args.folder)
    prepare(route, args.from_scratch)
    start = time.perf_counter()
    steps = steps_of(route)
    for number, (title, product, run) in enumerate(steps, start=1):
        if product.exists():
            console.print(f"[{number}/{len(steps)}] {title}: finished before", markup=False)
            continue
        console.print(f"[{number}/{len(steps)}] {title}", markup=False)
        begin = time.perf_counter()
        run()
        if product.name == "done":
            product.touch()
        console.print(f"      {time.perf_counter() - begin:.0f} s")
    summarize(route, time.perf_counter() - start)


def prepare(route: Route, anew: bool) -> None:
    """Make the work folder, or see that what is in it was made with the same settings; ``anew`` deletes it before."""
    work = route.work_dir
    if anew:
        shutil.rmtree(work, ignore_errors=True)
    note, asked = work / "settings", settings_digest(route)
    if work.exists() and (note.read_text() if note.exists() else None) != asked:
        sys.exit(
            f"{work} was made by an earlier version or with other configs or options (--smoke), and what is finished "
            "there would be mixed with the new: delete that folder and run again, or run in another --folder"
        )
    work.mkdir(parents=True, exist_ok=True)
    write_atomically(note, asked.encode())


def steps_of(route: Route) -> list[Step]:
    """Title, file that is there when it is finished, and function of each step; those named 'done' are made here."""
    work = route.work_dir
    steps: list[Step] = [
        ("answer images with the shipped model", work / "shipped.json", lambda: answer(work)),
        ("tokenize scenes", work / "tokens/done", lambda: tokenize(route)),
    ]
    if route.distilled_from_shipped:
        title = "write down what the shipped model predicts of them"
        steps.append((title, work / "teacher/done", lambda: write_predictions(route)))
    for name, title in route.trainings.items():
        steps.append((title, work / name / "done", lambda name=name: train(route, name)))
    for model in route.scored:
        steps.append((f"score: {model.title}", work / f"{model.name}.json", lambda model=model: score(route, model)))
    return steps


def answer(work: Path) -> None:
    """Answer with the shipped model; the tool prints the table."""
    panels, scores = work / "shipped_panels", work / "shipped.json"
    arguments = [FIRST_ANSWERS, SHIPPED, "--show-dir", panels, "--work-dir", work / "shipped", "--out", scores]
    run_tool([ROOT / "tools/test.py", *arguments, *settings("first_answers")])
    first = [np.asarray(Image.open(path)) for path in sorted(panels.glob("*.png"))]
    visualization.write_image(panels.with_suffix(".png"), visualization.stack_panels(first))
    console.print(f"      all answers in one image: {panels.with_suffix('.png')}")


def tokenize(route: Route) -> None:
    """Tokenize the scenes; the tool has its own progress bar."""
    run_tool([ROOT / "tools/tokenize_dataset.py", route.config("tokens"), *settings("tokens")])


def write_predictions(route: Route) -> None:
    """Let the shipped model read all sentences once; the tool has its own progress bar."""
    precision = "bfloat16" if has_bfloat16(choose_device().type) else "float32"
    run_tool([ROOT / "tools/cache_teacher.py", route.config("teacher"), SHIPPED, "--precision", precision])


def train(route: Route, name: str) -> None:
    """Train from a config, going on from its last checkpoint if there is one."""
    config, folder = route.config(name), route.work_dir / name
    steps = merged_config(config, options.get(name, ())).train_cfg.max_iters
    with progress_of("     ", "steps", console, SECONDS_BETWEEN_LINES) as show:

        def watch() -> None:
            step, losses = training_state(folder)
            show(step, steps, losses)

        watch()
        command = [ROOT / "tools/train.py", config, "--resume", *settings(name)]
        run_tool(command, folder.with_suffix(".log"), watch)


def score(route: Route, model: Scored) -> None:
    """Score a model on scenes that nothing was trained on."""
    work = route.work_dir
    weights = model.weights or (work / model.name / "last_checkpoint").read_text().strip()
    panels = ["--show-dir", work / "panels" / model.name] if model.answers else []
    arguments = [ROOT / "tools/test.py", route.config(model.config), weights, *panels, *settings("test")]
    command = [*arguments, "--work-dir", work / "test" / model.name, "--out", work / f"{model.name}.json"]
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as bar:
        bar.add_task("    drawing and scoring answers", total=None)
        run_tool(command, work / f"{model.name}.log")


def settings_digest(route: Route) -> str:
    """Changes with the configs of all steps, with what overrides them, and with the weights that are carried."""
    files = [FIRST_ANSWERS, *map(route.config, ("tokens", "teacher", *route.trainings))]
    texts = [Config.fromfile(file).pretty_text for file in files]
    tokenizers = ("delvm_mm://zoo_tokenizer", "delvm_mm://mini_tokenizer")
    return digest(*texts, json.dumps(options), shipped=(*tokenizers, SHIPPED))


def settings(name: str) -> list[str]:
    """What overrides a config."""
    return ["--cfg-options", *options[name]] if name in options else []


def summarize(route: Route, seconds: float) -> None:
    """Print the table, and lay a panel of each task and model into one image."""
    work = route.work_dir
    results = {model.name: json.loads((work / f"{model.name}.json").read_text()) for model in route.scored}
    # Beside a pipe there is no width to keep to.
    out = console if console.is_terminal else Console(highlight=False, width=max(140, console.width))
    out.print(score_table(route, results))
    for task in TASKS:
        for sentence in defeats(results[route.judged][task], task):
            console.print(sentence)
    last = {name: validation(work / name) for name in route.trainings}
    losses = ", ".join(f"{name} {record['token/label/loss']:.3f}" for name, record in last.items())
    entropy, accuracy = (last[route.judged][f"token/label/{key}"] for key in ("unigram_entropy", "accuracy"))
    console.print(
        f"label tokens of validation sentences, loss in nats: {losses}; unigram entropy {entropy:.3f}; accuracy of "
        f"{route.judged} {accuracy:.1f} %"
    )
    image = draw_summary(route)
    console.print(f"panels: {work / 'panels'}; the first of each task together: {image}")
    console.print(f"{seconds:.0f} s in all", style="bold")


def score_table(route: Route, results: dict[str, dict[str, Any]]) -> Table:
    """A line for each metric, a column for each model, between the best answer without a model and the ceiling."""
    titles = [model.title for model in route.scored]
    table = Table("task", "metric", "best trivial answer", *titles, "tokenizer ceiling", title="held-out scenes")
    for task in TASKS:
        of_task = results[route.judged][task]
        best = best_trivial_answers(of_task, task)
        for key in of_task:
            whose, metric = split_result(key, task)
            if not whose and metric in best:
                name, value = best[metric]
                values = [results[model.name][task][key] for model in route.scored]
                ceiling = of_task[f"{task}/ceiling/{metric}"]
                shown = [f"{number:.3f}" for number in (*values, ceiling)]
                table.add_row(task, metric, f"{value:.3f} ({name.replace('_', ' ')})", *shown)
    return table


def validation(folder: Path) -> dict[str, float]:
    """Last validation result in the logs of a training run."""
    return [record for record in training_records(folder) if "token/loss" in record][-1]


def draw_summary(route: Route) -> Path:
    """One image with the first panel of each task, by each model."""
    rows = [
        with_heading(sorted((route.work_dir / "panels" / model.name).glob("*.png")), task, model.title)
        for task in TASKS
        for model in route.scored
        if model.answers
    ]
    path = route.work_dir / "panels.png"
    visualization.write_image(path, visualization.stack_panels(rows))
    return path


def with_heading(panels: Sequence[Path], task: str, heading: str) -> np.ndarray:
    """The first panel of a task below a line of text, uint8, H x W x 3, RGB."""
    panel = np.asarray(Image.open(next(path for path in panels if path.name.startswith(f"{task}_"))))
    line = Image.new("RGB", (panel.shape[1], HEADING), PAPER)
    ImageDraw.Draw(line).text((6, 6), f"{heading}:", INK)
    return visualization.stack_panels([np.asarray(line), panel])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        again = "begin anew" if "--from-scratch" in sys.argv else "go on"
        sys.exit(f"\ninterrupted; run the same command again to {again}")
