"""Which recipe is better: the three ways of balancing tasks, and distillation, on built-in scenes with mini models.

Tokenizes a long-tailed mixture, trains a teacher, and then a student for every recipe and seed, all
with equally many steps; prints one table and draws one plot of the label tokens of held-out scenes. What is finished is
skipped when the command is run again, and a training that was interrupted goes on from its last checkpoint.
``--docs docs`` puts table, plot and every number into docs/comparison.md, docs/comparison.png and docs/data.
"""

import argparse
import functools
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from delvm_mm.engine.flops import training_flops_per_token
from delvm_mm.engine.tool_runs import digest, merged_config, run_tool, training_state
from delvm_mm.models import load_tokenizer
from delvm_mm.progress import progress_of
from documents import write_text
from recipe_report import collect, put_into_docs, report

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "comparison"
WORK = Path("work_dirs", "comparison")

TOP_K = 128  # codes that the cached teacher keeps, of 512
SECONDS_BETWEEN_LINES = 30  # where the output is no terminal
GIGA = 1e9
console = Console(highlight=False)


class Recipe(NamedTuple):
    """How students are trained: a config of configs/comparison, and the scheme of its sampler."""

    config: str
    scheme: str


RECIPES = {
    "mixture": Recipe("student.py", "mixture"),
    "resample": Recipe("student.py", "resample"),
    "augment": Recipe("student.py", "augment"),
    "augment + KD": Recipe("student_kd.py", "augment"),
    "augment + cached KD": Recipe("student_kd_cached.py", "augment"),
}
SMOKE = dict(
    tokens=[
        *(f"stores.{n}.dataset.length=4" for n in range(8)),
        *(f"stores.{n}.num_augmented_copies=2" for n in (3, 4)),
    ],
    model=["train_cfg.max_iters=4", "train_cfg.val_interval=2", "default_hooks.logger.interval=1"],
)
"""What makes everything small: a few steps on a few scenes."""


class Training(NamedTuple):
    """A run of tools/train.py."""

    name: str
    config: Path
    folder: Path
    options: list[str]
    steps: int
    flops: float  # of all its steps
    taught_by: str = ""  # what its teacher was asked for

    @property
    def settings(self) -> str:
        """A digest of what the run, and its teacher's, were asked for; another config or option changes it."""
        return digest(merged_config(self.config, self.options).pretty_text, self.taught_by)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    docs = args.docs and args.docs.resolve()
    args.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(args.folder)
    if args.from_scratch:
        shutil.rmtree(WORK, ignore_errors=True)
    options = SMOKE if args.smoke else {key: [] for key in SMOKE}
    teacher = plan("teacher", "teacher.py", WORK / "teacher", options["model"])
    students = {
        (name, seed): student(name, seed, options["model"], teacher) for seed in args.seeds for name in args.recipes
    }
    for training in (teacher, *students.values()):
        check_settings(training)
    tokenize(options["tokens"])
    train_all([teacher])
    if any(RECIPES[name].config == "student_kd_cached.py" for name in args.recipes):
        cache(teacher)
    train_all(list(students.values()))
    runs = [collect(training.folder, recipe=name, seed=seed) for (name, seed), training in students.items()]
    results = report(runs, collect(teacher.folder, recipe="teacher", seed=0), WORK, console)
    if docs:
        put_into_docs(results, WORK, docs)


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of initial weights and of the order")
    parser.add_argument("--docs", type=Path, help="folder of comparison.md, where the results are put")
    parser.add_argument("--folder", type=Path, default=ROOT, help=f"where {WORK} is made; by default the repository")
    parser.add_argument("--smoke", action="store_true", help="a few steps of everything, whose numbers mean nothing")
    parser.add_argument("--from-scratch", action="store_true", help="delete what an earlier run has left")
    return parser.parse_args(arguments)


def student(name: str, seed: int, options: Sequence[str], teacher: Training) -> Training:
    """The training of one recipe and seed; the seed is of initial weights and order, not of what is in the stores."""
    recipe = RECIPES[name]
    settings = [
        f"randomness.seed={seed}",
        f"train_dataloader.sampler.seed={seed}",
        f"train_dataloader.sampler.scheme={recipe.scheme}",
    ]
    online = recipe.config == "student_kd.py"
    if online:
        settings.append(f"default_hooks.distillation.teacher.checkpoint={checkpoint_of(teacher)}")
    folder = WORK / "runs" / f"{re.sub('[^a-z]+', '_', name.lower())}_{seed}"
    planned = plan(f"{name}, seed {seed}", recipe.config, folder, [*settings, *options], teacher if online else None)
    if recipe.config == "student.py":
        return planned
    return planned._replace(taught_by=teacher.settings + ("" if online else f", {TOP_K} codes"))


def checkpoint_of(training: Training) -> Path:
    """The last checkpoint of a training, whether it has been written yet or not."""
    return training.folder / f"iter_{merged_config(training.config, training.options).train_cfg.max_iters}.pth"


def plan(name: str, config: str, folder: Path, options: Sequence[str], teacher: Training | None = None) -> Training:
    """A training and what it costs, to say how much time is left."""
    cfg = merged_config(CONFIGS / config, options)
    arch = None if teacher is None else merged_config(teacher.config, teacher.options).model.backbone.arch
    context = cfg.train_dataloader.dataset.context
    codes = number_of_codes(cfg.model.tokenizer.pretrained)
    flops = training_flops_per_token(cfg.model.backbone.arch, context, codes, teacher=arch)
    steps = cfg.train_cfg.max_iters
    return Training(name, CONFIGS / config, folder, list(options), steps, steps * flops)


@functools.cache
def number_of_codes(tokenizer: str) -> int:
    return load_tokenizer(tokenizer).num_embeddings


def train_all(trainings: Sequence[Training]) -> None:
    """Run trainings one after another; finished ones are skipped."""
    waiting = [training for training in trainings if not is_finished(training)]
    if len(waiting) < len(trainings):
        console.print(f"{len(trainings) - len(waiting)} of {len(trainings)} trainings are finished")
    total = round(sum(training.flops for training in waiting) / GIGA)
    before = 0.0
    with progress_of("all trainings", "GFLOP", console, SECONDS_BETWEEN_LINES) as show:
        for number, training in enumerate(waiting, start=1):

            def watch(training: Training = training, number: int = number, before: float = before) -> None:
                step, losses = training_state(training.folder)
                done = round((before + training.flops * step / training.steps) / GIGA)
                show(done, total, f"{number}/{len(waiting)} {training.name}: {step}/{training.steps}  {losses}")

            watch()
            train(training, watch)
            before += training.flops


def is_finished(training: Training) -> bool:
    """Whether a training has run to its end."""
    return (training.folder / "done").exists()


def check_settings(training: Training) -> None:
    """Before anything is made: what there is of a training is of these settings.

    Raises:
        SystemExit: If it, or what there is of it, was asked for with other settings.
    """
    note = training.folder / "settings"
    if note.exists() and note.read_text() != training.settings:
        sys.exit(
            f"{training.folder} was made with other settings than {training.config.name} and this command give now; "
            "delete that folder, or everything with --from-scratch"
        )


def train(training: Training, watch: Callable[[], None]) -> None:
    """Run tools/train.py, going on from the last checkpoint if there is one."""
    training.folder.mkdir(parents=True, exist_ok=True)
    write_text(training.folder / "settings", training.settings)
    command = [ROOT / "tools" / "train.py", training.config, "--resume", "--work-dir", training.folder]
    options = ["--cfg-options", *training.options] if training.options else []
    run_tool([*command, *options], training.folder / "train.log", watch)
    (training.folder / "done").touch()


def cache(teacher: Training) -> None:
    """Write down what the teacher says of the training sentences; the tool refuses what another teacher has said."""
    command = [ROOT / "tools" / "cache_teacher.py", teacher.config, checkpoint_of(teacher)]
    command += ["--out", WORK / "teacher_cache", "--top-k", TOP_K]
    run_once(command, WORK / "teacher_cache", digest(f"{teacher.settings} {TOP_K}"))


def tokenize(options: Sequence[str]) -> None:
    """Tokenize the scenes; the tool has its own progress, and refuses stores of other scenes."""
    command = [ROOT / "tools" / "tokenize_dataset.py", CONFIGS / "tokens.py"]
    command += ["--cfg-options", *options] if options else []
    run_once(command, WORK / "tokens", digest(merged_config(CONFIGS / "tokens.py", options).pretty_text))


def run_once(command: list, product: Path, asked: str) -> None:
    """Run a tool, unless it was run to its end before and asked for the same."""
    done = product.with_suffix(".done")
    if not done.exists() or done.read_text() != asked:
        run_tool(command)
        write_text(done, asked)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; run the same command again to go on")
