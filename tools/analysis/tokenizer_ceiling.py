"""Score tokenizers by themselves: what is left of images and labels that went through them, side by side.

    python tools/analysis/tokenizer_ceiling.py configs/mini/student.py delvm_mm://mini_tokenizer
    python tools/analysis/tokenizer_ceiling.py configs/_base_/tasks/pose.py BEFORE AFTER --show-dir images

The queries of each task of the config are encoded and decoded: PSNR, SSIM (and LPIPS, with --lpips-vgg) of the
images; of the label images what the task's own metrics read back, which no model that writes this tokenizer's
tokens can exceed; how many percent of black and of white labels, and of images of their codes alone, come back
black ('empty label') and white ('full label'); and how many of the codes are used. 'tokens as the first' is 100 where
two tokenizers make the same tokens.
"""

import sys

try:
    import delvm_mm  # noqa: F401
except ImportError as error:  # MMEngine or mmcv is missing or unusable; the message says what to install
    sys.exit(f"error: {error}")


import argparse
import json
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.engine.launch import load_config, user_errors
from delvm_mm.engine.task_val_loop import choose_tasks, tasks_of
from delvm_mm.evaluation.tokenizer_scores import TaskScores, codebook_scores, score_task
from delvm_mm.hardware import choose_device
from delvm_mm.models import LPIPS, load_tokenizer
from delvm_mm.progress import progress_of
from delvm_mm.registry import DATASETS, EVALUATOR
from delvm_mm.visualization.panels import stack_panels, write_image
from delvm_mm.visualization.sheets import draw_row


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config with tasks, or a file of configs/_base_/tasks/")
    parser.add_argument("tokenizers", nargs="+", help="folders of tokenizers; the first is compared with")
    parser.add_argument("--task", nargs="+", help="tasks to score, all by default")
    parser.add_argument("--num-samples", type=int, help="at most so many queries of each task")
    parser.add_argument("--lpips-vgg", help="weights of torchvision's VGG16, for LPIPS")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default=str(choose_device()))
    parser.add_argument("--show-dir", help="write images with their reconstructions into this folder")
    parser.add_argument("--max-panels", type=int, default=4, help="samples shown of each task (4 by default)")
    parser.add_argument("--out", help="write the scores into this JSON file")
    args = parser.parse_args(arguments)
    for name in ("num_samples", "batch_size", "max_panels"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    return args


def chosen_tasks(cfg: Config, path: str, chosen: list[str] | None) -> dict[str, dict]:
    """Tasks by name."""
    tasks = tasks_of(cfg)
    if not tasks:
        raise ValueError(
            f"{path} defines no tasks; name a config with tasks=dict(...), or one of configs/_base_/tasks/"
        )
    return choose_tasks(tasks, chosen, f"--task: {path}")


def score_all(args: argparse.Namespace, tasks: dict[str, dict]) -> dict[str, dict[str, TaskScores]]:
    """Scores by tokenizer and task."""
    tokenizers = {folder: load_tokenizer(folder).to(args.device) for folder in args.tokenizers}
    perceptual = LPIPS(args.lpips_vgg).to(args.device) if args.lpips_vgg else None
    scores: dict[str, dict[str, TaskScores]] = {folder: {} for folder in tokenizers}
    for name, task in tasks.items():
        queries = task["dataloader"]["dataset"]
        queries = DATASETS.build(queries.get("query", queries))
        if args.num_samples:
            queries = _First(queries, args.num_samples)
        for folder, tokenizer in tokenizers.items():
            evaluator = EVALUATOR.build({**task["evaluator"], "ceiling": False, "prefix": None})
            num_panels = args.max_panels if args.show_dir else 0
            with progress_of(f"{name}, {folder}", "samples") as show:
                scores[folder][name] = score_task(
                    tokenizer, queries, evaluator, perceptual, args.batch_size, num_panels, show
                )
    return scores


def summarize(of_tasks: dict[str, TaskScores], first: dict[str, TaskScores]) -> dict[str, float]:
    """One column: names of scores and their values."""
    column = {}
    for name, scores in of_tasks.items():
        column |= {f"{name}/image {key}": value for key, value in scores.reconstruction.items()}
        column |= {f"{name}/ceiling {key}": value for key, value in scores.ceilings.items()}
        column |= {f"{name}/{key}": value for key, value in scores.flat.items()}
        if scores.tokens.shape == first[name].tokens.shape:
            column[f"{name}/tokens as the first"] = 100.0 * float((scores.tokens == first[name].tokens).mean())
    return column | codebook_scores(sum(scores.counts for scores in of_tasks.values()))


def draw(scores: dict[str, dict[str, TaskScores]], folder: Path) -> None:
    """A sheet for each task: image, reconstructions, label, its reconstructions."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(scores)
    for task, first in scores[names[0]].items():
        rows = []
        for number, (image, _, label, _) in enumerate(first.panels):
            returned = [scores[name][task].panels[number] for name in names]
            captions = [f"tokenizer {i + 1}" if len(names) > 1 else "reconstruction" for i in range(len(names))]
            of_image = [(caption, each[1]) for caption, each in zip(captions, returned, strict=True)]
            of_label = [(caption, each[3]) for caption, each in zip(captions, returned, strict=True)]
            rows.append(draw_row([[("image", image), *of_image], [("label", label), *of_label]]))
        write_image(folder / f"{task}.png", stack_panels(rows))


class _First:
    """The first samples of a data set."""

    def __init__(self, dataset: object, number: int) -> None:
        self.dataset, self.number = dataset, min(number, len(dataset))
        self.metainfo = getattr(dataset, "metainfo", {})

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict:
        return self.dataset[index]


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    cfg = load_config(args.config)
    init_default_scope("delvm_mm")
    args.tokenizers = list(dict.fromkeys(args.tokenizers))
    scores = score_all(args, chosen_tasks(cfg, args.config, args.task))
    first = scores[args.tokenizers[0]]
    columns = {folder: summarize(of_tasks, first) for folder, of_tasks in scores.items()}
    table = Table("score", *args.tokenizers)
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        table.add_row(name, *(f"{column[name]:.4g}" if name in column else "" for column in columns.values()))
    Console().print(table)
    if args.show_dir:
        draw(scores, Path(args.show_dir))
        print(f"images: {args.show_dir}")
    if args.out:
        out = Path(args.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(columns, indent=2, default=np.generic.item) + "\n"
        write_atomically(out, text.encode())


if __name__ == "__main__":
    main()
