"""The quick start: answers of the shipped model at once, then from nothing to a distilled model scored on three tasks.

The shipped model answers built-in scenes and photographs that scikit-image carries. Then, on built-in data and two CPU
cores: scenes are tokenized with the tokenizer that the package carries, a teacher is trained, a student is distilled
and scored. A step that is finished is skipped when the command is run again, a training that was interrupted goes on
from its last checkpoint.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from delvm_mm import visualization
from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.engine.tool_runs import digest, merged_config, run_tool, training_records, training_state
from delvm_mm.progress import progress_of

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("seg", "pose", "derain")
SHIPPED, FIRST_ANSWERS = "delvm_mm://mini", ROOT / "configs/zoo/first_answers.py"
SECONDS_BETWEEN_LINES = 15  # where the output is no terminal
console = Console(highlight=False)
SMALL_MODEL = ["train_cfg.max_iters=2", "train_cfg.val_interval=2"]
SMALL_TASKS = [f"tasks.{task}.dataloader.dataset.{part}.length=4" for task in TASKS for part in ("support", "query")]
SMOKE = dict(
    tokens=[f"stores.{number}.dataset.length=8" for number in range(6)],
    teacher=SMALL_MODEL,
    student_kd=[*SMALL_MODEL, "default_hooks.distillation.teacher.checkpoint=work_dirs/quickstart/teacher/iter_2.pth"],
    test=[*SMALL_MODEL, *SMALL_TASKS],
)
options: dict[str, list[str]] = {}
"""Config -> settings of its run; ``--smoke`` fills it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--long", action="store_true", help="the longer schedule (about an hour on 2 cores), in work_dirs/mini_long"
    )
    parser.add_argument("--from-scratch", action="store_true", help="delete what an earlier run has left")
    parser.add_argument("--smoke", action="store_true", help="two steps of everything, to see that it runs")
    parser.add_argument("--folder", type=Path, default=ROOT, help="where work_dirs is made; by default the repository")
    args = parser.parse_args()
    if args.smoke and args.long:
        parser.error("--smoke is of the short schedule: leave --long out")
    options.update(SMOKE if args.smoke else {})
    args.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(args.folder)
    configs = ROOT / "configs" / ("mini_long" if args.long else "mini")
    work = Path("work_dirs") / ("mini_long" if args.long else "quickstart")
    if args.from_scratch:
        shutil.rmtree(work, ignore_errors=True)
    note, asked = work / "settings", settings_digest(configs)
    if work.exists() and (note.read_text() if note.exists() else None) != asked:
        sys.exit(
            f"{work} was made by an earlier version or with other configs or options (--smoke), and what is finished "
            "there would be mixed with the new: run with --from-scratch, which deletes it, or in another --folder"
        )
    work.mkdir(parents=True, exist_ok=True)
    write_atomically(note, asked.encode())
    start = time.perf_counter()
    steps: list[tuple[str, Path, Callable[[], None]]] = [
        ("answer images with the shipped model", work / "shipped.json", lambda: answer(work)),
        ("tokenize scenes", work / "tokens/done", lambda: tokenize(configs / "tokens.py", work)),
        ("train the teacher", work / "teacher/done", lambda: train(configs / "teacher.py", work)),
        ("distil the student", work / "student_kd/done", lambda: train(configs / "student_kd.py", work)),
        ("score the student", work / "student.json", lambda: score(configs, work, trained=True)),
        ("score an untrained one", work / "untrained.json", lambda: score(configs, work, trained=False)),
    ]
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
    summarize(work, time.perf_counter() - start)


def answer(work: Path) -> None:
    """Answer with the shipped model; the tool prints the table."""
    panels, scores = work / "shipped_panels", work / "shipped.json"
    arguments = [FIRST_ANSWERS, SHIPPED, "--show-dir", panels, "--work-dir", work / "shipped", "--out", scores]
    run_tool([ROOT / "tools/test.py", *arguments])
    first = [np.asarray(Image.open(path)) for path in sorted(panels.glob("*.png"))]
    visualization.write_image(panels.with_suffix(".png"), visualization.stack_panels(first))
    console.print(f"      all answers in one image: {panels.with_suffix('.png')}")


def train(config: Path, work: Path) -> None:
    """Train from a config, going on from its last checkpoint if there is one."""
    folder = work / config.stem
    steps = merged_config(config, options.get(config.stem, ())).train_cfg.max_iters
    with progress_of("     ", "steps", console, SECONDS_BETWEEN_LINES) as show:

        def watch() -> None:
            step, losses = training_state(folder)
            show(step, steps, losses)

        watch()
        command = [ROOT / "tools/train.py", config, "--resume", *settings(config.stem)]
        run_tool(command, folder.with_suffix(".log"), watch)


def tokenize(config: Path, work: Path) -> None:
    """Tokenize the scenes; the tool has its own progress bar."""
    run_tool([ROOT / "tools/tokenize_dataset.py", config, *settings("tokens")])


def score(configs: Path, work: Path, trained: bool) -> None:
    """Score the student, or the same model with its initial weights."""
    name = "student" if trained else "untrained"
    checkpoint = (work / "student_kd/last_checkpoint").read_text().strip() if trained else "none"
    panels = ["--show-dir", work / "panels"] if trained else []
    arguments = [ROOT / "tools/test.py", configs / "student_kd.py", checkpoint, *panels, *settings("test")]

    command = [*arguments, "--work-dir", work / "test", "--out", work / f"{name}.json"]
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as bar:
        bar.add_task("    drawing and scoring answers", total=None)
        run_tool(command, work / f"{name}.log")


def settings_digest(configs: Path) -> str:
    """Changes with the configs of all steps, with what overrides them, and with the weights that are carried."""
    files = [FIRST_ANSWERS, *(configs / f"{name}.py" for name in ("tokens", "teacher", "student_kd"))]
    texts = [Config.fromfile(file).pretty_text for file in files]
    return digest(*texts, json.dumps(options), shipped=("delvm_mm://mini_tokenizer", SHIPPED))


def settings(name: str) -> list[str]:
    """What overrides a config."""
    return ["--cfg-options", *options[name]] if name in options else []


def summarize(work: Path, seconds: float) -> None:
    """Print the table and lay one panel of each task into one image."""
    from delvm_mm.evaluation.trivial_answers import defeats

    student, untrained = (json.loads((work / f"{name}.json").read_text()) for name in ("student", "untrained"))
    answers = dict.fromkeys(
        key.split("/")[2] for task in TASKS for key in student[task] if key.startswith(f"{task}/trivial/")
    )
    trivial = [name.replace("_", " ") for name in answers]
    table = Table("task", "metric", "untrained", *trivial, "student", "tokenizer ceiling", title="held-out scenes")
    for task in TASKS:
        for key, value in student[task].items():
            name = key.removeprefix(f"{task}/")
            if not name.startswith(("ceiling/", "trivial/")) and name not in ("images_per_s", "prompt"):
                beside = (student[task].get(f"{task}/trivial/{answer}/{name}") for answer in answers)
                values = (untrained[task][key], *beside, value, student[task][f"{task}/ceiling/{name}"])
                table.add_row(task, name, *("" if number is None else f"{number:.3f}" for number in values))
    tokens = validation(work / "student_kd")
    teacher = validation(work / "teacher")
    (console if console.is_terminal else Console(highlight=False, width=max(140, console.width))).print(table)
    for task in TASKS:
        for sentence in defeats(student[task], task):
            console.print(sentence)
    console.print(
        f"label tokens of validation sentences: loss {tokens['token/label/loss']:.3f} nats with distillation "
        f"(teacher {teacher['token/label/loss']:.3f}), unigram entropy {tokens['token/label/unigram_entropy']:.3f}, "
        f"accuracy {tokens['token/label/accuracy']:.1f} %"
    )
    image = draw_summary(work)
    console.print(f"panels: {work / 'panels'}; the first of each task together: {image}")
    console.print(f"{seconds:.0f} s in all", style="bold")


def validation(folder: Path) -> dict[str, float]:
    """Last validation result in the logs of a training run."""
    return [record for record in training_records(folder) if "token/loss" in record][-1]


def draw_summary(work: Path) -> Path:
    """One image with a panel of each task."""
    panels = [np.asarray(Image.open(sorted((work / "panels").glob(f"{task}_*.png"))[0])) for task in TASKS]
    path = work / "panels.png"
    visualization.write_image(path, visualization.stack_panels(panels))
    return path


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; run the same command again to go on")
