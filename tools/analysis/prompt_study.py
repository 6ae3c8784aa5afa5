"""What the prompt is worth: scores against the number of pairs, their choice and order, ensembles, and wrong prompts.

    python tools/analysis/prompt_study.py configs/zoo/mini.py delvm_mm://mini --task seg_scenes pose_scenes

Each row of a table is one way of prompting, each column a task of the config by the first of its metrics, beside the
tokenizer ceiling and the best answer that needs no model. The rows of 'controls' say whether the model reads its
prompt: a model that does not loses nothing by the prompt of another task.

What is scored is kept in OUT/scores.json: the same command again goes on where it was stopped, and scores nothing
twice. OUT gets prompt_study.md (the tables), prompt_study.png (the plot) and prompt_study.csv (every number).
"""

import sys

try:
    import delvm_mm  # noqa: F401
except ImportError as error:  # MMEngine or mmcv is missing or unusable; the message says what to install
    sys.exit(f"error: {error}")


import argparse
import hashlib
import io
import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from rich.console import Console

from delvm_mm.datasets import PromptControlDataset
from delvm_mm.engine.launch import user_errors
from delvm_mm.engine.task_val_loop import choose_tasks, sampling_of
from delvm_mm.hardware import choose_device
from delvm_mm.models.prompt_ensemble import PromptEnsemble
from delvm_mm.registry import EVALUATOR
from documents import replace_block, write_text
from prompt_study_report import Score, csv_text, draw, markdown, primary_metric
from prompt_study_settings import PARTS, Setting, settings_of
from prompted_tasks import Task, build_model, read_config


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config with tasks")
    parser.add_argument("checkpoint", help="path of the weights, or a model folder such as delvm_mm://mini")
    parser.add_argument("--task", nargs="+", help="tasks to study, all by default")
    parser.add_argument("--num-samples", type=int, default=50, help="queries of each task, spread evenly (50)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="that choose the prompts (0 1 2)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to study, all by default")
    parser.add_argument("--ensembles", nargs="+", type=int, default=[2, 4, 8], help="numbers of prompts (2 4 8)")
    parser.add_argument(
        "--shared-prompts",
        action="store_true",
        help="show all queries of a seed the same pairs, which are read once: faster, and seeds differ more",
    )
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop after so many, and write what there is; no limit"
    )
    parser.add_argument("--backbone", help="also choose by the features of this network, such as torchvision.resnet50")
    parser.add_argument("--backbone-weights", help="file of its weights")
    parser.add_argument("--batch-size", type=int, default=8, help="queries that are answered together (8)")
    parser.add_argument("--device", default=str(choose_device()))
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="settings that override the config's")
    parser.add_argument("--out", default="work_dirs/prompt_study", help="folder of scores, tables and plot")
    parser.add_argument("--docs", help="put tables and plot into prompting.md of this folder")
    args = parser.parse_args(arguments)
    for name in ("num_samples", "batch_size", *(("ensembles",) if min(args.ensembles) < 2 else ())):
        if name == "ensembles" or getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(args, name)}, expected at least 1 (ensembles: 2)")
    if len(set(args.seeds)) < len(args.seeds):
        parser.error(f"--seeds {args.seeds}: expected different ones")
    if (args.backbone is None) != (args.backbone_weights is None):
        parser.error("--backbone and --backbone-weights go together")
    return args


class Study:
    """Settings of tasks, scored one after another; what is scored is kept in a file."""

    def __init__(self, args: argparse.Namespace, cfg: Config) -> None:
        self.args, self.out = args, Path(args.out)
        self.model = build_model(cfg, args.checkpoint, args.device)
        tasks = choose_tasks(cfg.get("tasks"), args.task, f"--task: {args.config}")
        self.tasks = {name: Task(name, cfg, self.model) for name in tasks}
        digest = hashlib.sha256(repr((cfg.model.to_dict(), args.num_samples, args.shared_prompts)).encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        self._digest = digest.hexdigest()
        self._file = self.out / "scores.json"
        self._known = json.loads(self._file.read_text()) if self._file.exists() else {}

    def run(self, minutes: float) -> list[Score]:
        """Score what is not scored yet, for so many minutes; all scores that there are then."""
        todo = [*self._todo()]
        missing = sum(self._key(*one) not in self._known for one in todo)
        console = Console()
        console.print(f"{len(todo)} scores, {len(todo) - missing} of them from {self._file}", highlight=False)
        done, begin = 0, time.perf_counter()
        for task, setting, seed in todo:
            if self._key(task, setting, seed) in self._known:
                continue
            self._known |= self._scored(task, setting, seed)
            write_text(self._file, json.dumps(self._known, indent=1) + "\n")
            before, missing = missing, sum(self._key(*one) not in self._known for one in todo)
            done += before - missing
            seconds = time.perf_counter() - begin
            left = f"{missing} are left, {seconds / done * missing:.0f} s"
            console.print(f"{task.name}, {setting.name}, seed {seed}: {left}", highlight=False)
            if missing and seconds > 60 * minutes:
                console.print(f"{missing} scores are missing: run the same command again to go on", highlight=False)
                break
        keys = [(one, self._key(*one)) for one in todo]
        return [
            Score(task.name, setting, seed, self._known[key])
            for (task, setting, seed), key in keys
            if key in self._known
        ]

    def _todo(self) -> Iterator[tuple[Task, Setting, int]]:
        """All settings of all tasks, seed by seed, tasks by turns: a study that is stopped has something of each."""
        options = (self.args.parts, self.args.ensembles, len(self.tasks) > 1, self.args.backbone)
        settings = {task.name: settings_of(task.facts, *options) for task in self.tasks.values()}
        for position, seed in enumerate(self.args.seeds):
            for of_tasks in zip_longest(*settings.values()):
                for task, one in zip(self.tasks.values(), of_tasks, strict=True):
                    if one is not None and (one.is_random or not position):
                        yield task, one, seed

    def _key(self, task: Task, setting: Setting, seed: int) -> str:
        other = self._other(task).name if setting.control == "other_task" else None
        asked = (task.config.to_dict(), task.evaluator, setting.asked, other, seed, self.args.backbone_weights)
        if sampler := task.settings.get("sampler"):
            asked = (*asked, dict(sampler))
        return f"{task.name}/{seed}/" + hashlib.sha256((self._digest + repr(asked)).encode()).hexdigest()[:16]

    def _other(self, task: Task) -> Task:
        names = [*self.tasks]
        return self.tasks[names[(names.index(task.name) + 1) % len(names)]]

    def _features(self, task: Task) -> dict[str, dict]:
        tokenizer = dict(tokenizer=self.model.tokenizer, device=self.args.device)
        known = dict(
            codes=dict(type="CodebookHistograms", **tokenizer), encoder=dict(type="TokenizerFeatures", **tokenizer)
        )
        if self.args.backbone is not None:
            known["backbone"] = dict(
                type="BackboneFeatures",
                backbone=self.args.backbone,
                weights=self.args.backbone_weights,
                device=self.args.device,
            )
        return {
            name: dict(features, cache=str(self.out / "features" / f"{task.name}_{name}.npz"))
            for name, features in known.items()
        }

    def _scored(self, task: Task, setting: Setting, seed: int) -> dict[str, dict[str, float]]:
        """Key -> scores, of the setting and of those that combine the same answers otherwise."""
        shared = self.args.shared_prompts
        dataset = task.dataset(setting, seed, shared, self._features(task))
        if setting.control is not None:
            other = None
            if setting.control == "other_task":
                one = self._other(task)
                fitting = setting.with_pairs(min(setting.num_pairs, one.facts.max_pairs))
                other = one.dataset(fitting, seed, shared, {})
            dataset = PromptControlDataset(dataset, setting.control, other)
        together = [setting, *setting.same_answers]
        evaluators = [
            EVALUATOR.build(dict(task.evaluator, ceiling=setting.is_base, trivial=setting.is_base)) for _ in together
        ]
        for evaluator in evaluators:
            evaluator.dataset_meta = dataset.metainfo
        count = min(self.args.num_samples, len(dataset))
        positions = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
        self.model.ensemble = PromptEnsemble.of(setting.ensemble)
        for start in range(0, count, self.args.batch_size):
            batch = pseudo_collate([dataset[index] for index in positions[start : start + self.args.batch_size]])
            if not setting.is_base and not task.reads_query:  # no ceiling is scored: do not compute it
                for sample in batch["data_samples"]:
                    del sample.label_image
            # The study asks in ways of its own: the task's sampler alone.
            with torch.no_grad(), sampling_of(self.model, dict(sampler=task.settings.get("sampler"))):
                answers = self.model.test_step(batch)
            for one, evaluator in zip(together, evaluators, strict=True):
                for sample in answers:
                    if "pred_images" in sample:
                        sample.set_data(dict(combine=one.ensemble["combine"]))
                evaluator.process(answers, batch)
        with redirect_stdout(io.StringIO()):  # pycocotools prints
            results = [evaluator.evaluate(count) for evaluator in evaluators]
        return {self._key(task, one, seed): result for one, result in zip(together, results, strict=True)}


def put_into_docs(text: str, out: Path, docs: Path) -> None:
    """Put tables, plot and numbers into the documentation."""
    plot = "![the same as a plot, each seed a point](prompting.png)"
    replace_block(docs / "prompting.md", "prompt_study.py", f"{text}\n\n{plot}\n\n[Every number](data/prompting.csv).")
    (docs / "data").mkdir(exist_ok=True)
    shutil.copyfile(out / "prompt_study.png", docs / "prompting.png")
    shutil.copyfile(out / "prompt_study.csv", docs / "data" / "prompting.csv")


def report(scores: Sequence[Score], args: argparse.Namespace) -> None:
    """Write tables, plot and numbers."""
    out = Path(args.out)
    text = markdown(scores, args.num_samples)
    write_text(out / "prompt_study.md", text + "\n")
    write_text(out / "prompt_study.csv", csv_text(scores))
    draw(scores, out / "prompt_study.png")
    print(text)
    if args.docs:
        put_into_docs(text, out, Path(args.docs))
    print(f"tables, plot and every number: {out / 'prompt_study.md'}, .png, .csv")


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    cfg = read_config(args.config, args.checkpoint, args.cfg_options)
    # Tables of classes and sentences about single scores, of which there are many.
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    scores = Study(args, cfg).run(args.minutes)
    primary_metric(scores)  # before anything is written: all tasks need one
    report(scores, args)


if __name__ == "__main__":
    main()
