"""The quick start: from nothing to a distilled model scored on three tasks, on built-in data and two CPU cores.

Tokenizes scenes with the tokenizer that the package carries, trains a teacher, distils a student and scores it. A step
that is finished is skipped when the command is run again, a training that was interrupted goes on from its last
checkpoint.
"""

import argparse
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("seg", "pose", "derain")
TRAINING_LINE = re.compile(r"Iter\(train\) *\[ *(\d+)/(\d+)\](.*)")
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
    note.write_text(asked)
    start = time.perf_counter()
    steps: list[tuple[str, Path, Callable[[], None]]] = [
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


def train(config: Path, work: Path) -> None:
    """Train from a config, going on from its last checkpoint if there is one."""
    folder = work / config.stem
    columns = (TextColumn("     "), BarColumn(30), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[losses]}"), console=console) as bar:
        row = bar.add_task("", total=None, losses="starting")
        printed = time.perf_counter()

        def show(line: str) -> None:
            nonlocal printed
            if found := TRAINING_LINE.search(line):
                done, total, rest = found.groups()
                values = dict(re.findall(r"(\w+): +([\d.:]+)", rest))
                shown = [key for key in ("loss", "loss_ce", "loss_kd", "tokens_per_s") if key in values]
                losses = "  ".join(f"{key} {values[key]}" for key in shown)
                bar.update(row, completed=int(done), total=int(total), losses=losses)
                # Into a file or a pipe there is no bar: say it in lines.
                if not console.is_terminal and time.perf_counter() - printed > 15:
                    printed = time.perf_counter()
                    console.print(f"      {done}/{total}  eta {values.get('eta', '?')}  {losses}")

        command = [ROOT / "tools/train.py", config, "--resume", *settings(config.stem)]
        run(command, folder.with_suffix(".log"), show)


def tokenize(config: Path, work: Path) -> None:
    """Tokenize the scenes; the tool has its own progress bar."""
    run([ROOT / "tools/tokenize_dataset.py", config, *settings("tokens")], work / "tokens.log", console=True)


def score(configs: Path, work: Path, trained: bool) -> None:
    """Score the student, or the same model with its initial weights."""
    name = "student" if trained else "untrained"
    checkpoint = (work / "student_kd/last_checkpoint").read_text().strip() if trained else "none"
    panels = ["--show-dir", work / "panels"] if trained else []
    arguments = [ROOT / "tools/test.py", configs / "student_kd.py", checkpoint, *panels, *settings("test")]

    def show(line: str) -> None:
        if found := re.search(r"Iter\(test\) *\[ *(\d+)/(\d+)\]", line):
            console.print(f"      batch {found[1]}/{found[2]}", end="\r")

    run([*arguments, "--work-dir", work / "test", "--out", work / f"{name}.json"], work / f"{name}.log", show)


def settings_digest(configs: Path) -> str:
    """Changes with the configs of all steps and with what overrides them."""
    names = ("tokens", "teacher", "student_kd")
    return digest(*(Config.fromfile(configs / f"{name}.py").pretty_text for name in names), json.dumps(options))


def digest(*asked: str) -> str:
    """Changes with what a run was asked for, and with the tokenizer that the package carries."""
    return hashlib.sha256("".join(asked).encode() + shipped_weights()).hexdigest()[:16]


@functools.cache
def shipped_weights() -> bytes:
    return (ROOT / "delvm_mm" / "pretrained" / "mini_tokenizer" / "model.safetensors").read_bytes()


def settings(name: str) -> list[str]:
    """What overrides a config."""
    return ["--cfg-options", *options[name]] if name in options else []


def run(arguments: list, log: Path, show: Callable[[str], None] | None = None, console: bool = False) -> None:
    """Run a tool with its output in a log file; what it shows of it is up to ``show``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *map(str, arguments)]
    if console:
        code = subprocess.run(command).returncode
    else:
        with (
            log.open("a") as file,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
        ):
            try:
                for line in process.stdout:
                    file.write(line)
                    show(line)
            except BaseException:
                # A signal may have reached this process alone; the tool must not go on beside the next run.
                process.kill()
                raise
            code = process.wait()
    if code:
        tail = "" if console else "".join(log.read_text().splitlines(keepends=True)[-15:]) + f"the whole log: {log}\n"
        sys.exit(f"{tail}failed: {' '.join(command)}\nrun the same command again to go on")


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
    records = [
        json.loads(line)
        for path in sorted(folder.glob("*/vis_data/scalars.json"))
        for line in path.read_text().splitlines()
    ]
    return [record for record in records if "token/loss" in record][-1]


def draw_summary(work: Path) -> Path:
    """One image with a panel of each task."""
    import numpy as np
    from PIL import Image

    from delvm_mm.visualization import stack_panels, write_image

    panels = [np.asarray(Image.open(sorted((work / "panels").glob(f"{task}_*.png"))[0])) for task in TASKS]
    path = work / "panels.png"
    write_image(path, stack_panels(panels))
    return path


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; run the same command again to go on")
