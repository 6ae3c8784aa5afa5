"""Which task an answer is of: the one that the prompt shows, or another, such as the one that the query suggests.

    python tools/analysis/answered_task.py configs/zoo/mini.py delvm_mm://mini --task seg_scenes pose_scenes

Queries of each task are answered behind prompts of each, chosen as the prompt's task chooses its tokens. An answer is
of the task whose labels most probably have its codes; labels are those of the data sets that prompts are from, and are
compared by how often each code comes. Where one code fills the answer, it is of none. The same is asked of the true
labels of queries, which no prompt has: what is told wrong there is not the model's fault.

Tasks have to have labels that look different: --task may be given again, and each time compares its tasks alone.
"""

import sys

try:
    import delvm_mm  # noqa: F401
except ImportError as error:  # MMEngine or mmcv is missing or unusable; the message says what to install
    sys.exit(f"error: {error}")


import argparse
import logging
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from rich.console import Console
from torch.utils.data import Dataset

from delvm_mm.datasets import PromptControlDataset
from delvm_mm.datasets.image_features import CodebookHistograms
from delvm_mm.engine.launch import user_errors
from delvm_mm.engine.task_val_loop import choose_tasks, sampling_of
from delvm_mm.hardware import choose_device
from delvm_mm.models import DeLVM
from documents import markdown_table, replace_block
from label_kinds import NONE, LabelKinds, count_codes
from prompt_study_settings import Setting
from prompted_tasks import Task, build_model, read_config


class Answers(NamedTuple):
    """How many answers are of which task, behind prompts of one task and before queries of one."""

    prompt: str
    query: str
    seed: int
    kinds: Counter[str]


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config with tasks")
    parser.add_argument("checkpoint", help="path of the weights, or a model folder such as delvm_mm://mini")
    parser.add_argument(
        "--task", nargs="+", action="append", help="tasks to tell apart, all by default; again for a further table"
    )
    parser.add_argument("--num-samples", type=int, default=24, help="queries of each pair of tasks and seed (24)")
    parser.add_argument("--num-labels", type=int, default=100, help="at most so many labels of each task (100)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="that choose the prompts (0 1 2)")
    parser.add_argument("--batch-size", type=int, default=12, help="queries that are answered together (12)")
    parser.add_argument("--device", default=str(choose_device()))
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="settings that override the config's")
    parser.add_argument("--docs", help="put the tables into prompting.md of this folder")
    args = parser.parse_args(arguments)
    for name in ("num_samples", "num_labels", "batch_size"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(args, name)}, expected at least 1")
    if len(set(args.seeds)) < len(args.seeds):
        parser.error(f"--seeds {args.seeds}: expected different ones")
    return args


def count_labels(dataset: Dataset, features: CodebookHistograms, most: int) -> np.ndarray:
    """Counts of each code in labels of a data set, spread evenly: N x K."""
    return features.of([dataset[index]["label"] for index in _spread(len(dataset), most)])


def answer_pair(
    model: DeLVM, prompts: Task, queries: Task, kinds: LabelKinds, seed: int, args: argparse.Namespace
) -> Answers:
    """Answer queries of one task behind prompts of one, and tell of which task the answers are."""
    num_pairs = min(prompts.facts.num_pairs, queries.facts.num_pairs)
    setting = Setting("base", "", num_pairs)
    dataset = queries.dataset(setting, seed, False, {})
    if prompts is not queries:
        dataset = PromptControlDataset(dataset, "other_task", prompts.dataset(setting, seed, False, {}))
    positions, found = _spread(len(dataset), args.num_samples), []
    for start in range(0, len(positions), args.batch_size):
        batch = pseudo_collate([dataset[index] for index in positions[start : start + args.batch_size]])
        for sample in batch["data_samples"]:
            del sample.label_image  # its ceiling is not asked for
        # One answer a query: the task's sampler alone.
        with torch.no_grad(), sampling_of(model, dict(sampler=prompts.settings.get("sampler"))):
            answers = model.test_step(batch)
        tokens = np.stack([sample.pred_tokens.numpy() for sample in answers])
        found += kinds.of(count_codes(tokens, model.num_codes))
    return Answers(prompts.name, queries.name, seed, Counter(found))


def markdown(tasks: Sequence[str], answers: Sequence[Answers], labels: dict[str, Counter[str]]) -> str:
    """Sentences and a table: of which task are answers behind pairs of each before queries of each.

    Args:
        tasks: That were told apart.
        answers: Of all pairs of tasks and all seeds.
        labels: Task -> of which task its true labels look.
    """
    rows = []
    for prompt in tasks:
        for query in tasks:
            kinds = sum((each.kinds for each in answers if each[:2] == (prompt, query)), Counter())
            rows.append(_row(f"pairs of {prompt}, query of {query}", prompt, kinds, tasks))
    rows += [_row(f"*true labels of {task}*", task, kinds, tasks) for task, kinds in labels.items()]
    table = markdown_table(["", *(f"like {task}" for task in tasks), "like none", "as they should"], rows)
    others, own = ([each for each in answers if (each.prompt == each.query) == same] for same in (False, True))
    right, total = sum(labels[task][task] for task in tasks), sum(kinds.total() for kinds in labels.values())
    return (
        f"Behind pairs of another task, {_told(others)} Behind pairs of the query's own task, {_told(own)} Of true "
        f"labels, {right} of {total} are told right.\n\n{table}"
    )


def _told(answers: Sequence[Answers]) -> str:
    """How many answers are of the task of their prompt."""
    seeds = sorted({each.seed for each in answers})
    of_seeds = [[each for each in answers if each.seed == seed] for seed in seeds]
    right = [sum(each.kinds[each.prompt] for each in those) for those in of_seeds]
    total = [sum(each.kinds.total() for each in those) for those in of_seeds]
    text = f"{sum(right)} of {sum(total)} answers are of the task of the pairs: {100 * sum(right) / sum(total):.1f} %"
    if len(seeds) > 1:
        spread = statistics.stdev(100 * part / whole for part, whole in zip(right, total, strict=True))
        text += f", ± {spread:.1f} over the prompts of seeds {', '.join(map(str, seeds))}"
    return text + "."


def _row(name: str, right: str, kinds: Counter[str], tasks: Sequence[str]) -> list[str]:
    counts = [kinds[task] for task in (*tasks, NONE)]
    return [name, *map(str, counts), f"{100 * kinds[right] / sum(counts):.1f} %"]


def _spread(length: int, most: int) -> list[int]:
    return np.linspace(0, length - 1, min(most, length)).round().astype(int).tolist()


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    cfg = read_config(args.config, args.checkpoint, args.cfg_options)
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    groups = [[*choose_tasks(cfg.tasks, names, f"--task: {args.config}")] for names in args.task or [None]]
    model = build_model(cfg, args.checkpoint, args.device)
    tasks = {name: Task(name, cfg, model) for name in dict.fromkeys(chain(*groups))}
    features = CodebookHistograms(model.tokenizer, device=args.device)
    shown = {name: count_labels(task.support, features, args.num_labels) for name, task in tasks.items()}
    unseen = {name: count_labels(task.query, features, args.num_labels) for name, task in tasks.items()}
    telling = [LabelKinds({name: shown[name] for name in group}) for group in groups]
    texts, console, begin = [], Console(), time.perf_counter()
    for group, kinds in zip(groups, telling, strict=True):
        answers = []
        for seed in args.seeds:
            for prompt in group:
                for query in group:
                    answers.append(answer_pair(model, tasks[prompt], tasks[query], kinds, seed, args))
                    found = ", ".join(f"{count} like {kind}" for kind, count in answers[-1].kinds.most_common())
                    seconds = time.perf_counter() - begin
                    line = f"{seconds:.0f} s: seed {seed}, pairs of {prompt}, queries of {query}: {found}"
                    console.print(line, highlight=False, soft_wrap=True)
        labels = {name: Counter(kinds.of(unseen[name])) for name in group}
        texts.append(markdown(group, answers, labels))
    text = "\n\n".join(texts)
    print(text)
    if args.docs:
        replace_block(Path(args.docs) / "prompting.md", "answered_task.py", text)


if __name__ == "__main__":
    main()
