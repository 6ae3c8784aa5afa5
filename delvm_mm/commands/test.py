"""Scores the tasks of ``delvm test`` and shows the scores."""

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

import delvm_mm
from delvm_mm.apis.tested_model import add_model
from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.commands.parsers import parse_run_arguments
from delvm_mm.commands.parsers.test import make_parser
from delvm_mm.engine.configs.hooks import MMENGINE_HOOKS
from delvm_mm.engine.hooks import ReportHook
from delvm_mm.engine.launch import (
    build_runner,
    load_config,
    load_weights,
    set_up_distributed,
    use_safe_checkpoints,
    user_errors,
)
from delvm_mm.engine.reports.score_report import render_report
from delvm_mm.engine.task_val_loop import choose_tasks, sampling_of, tasks_of
from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.evaluation.prompt_seeds import mean_and_spread, with_prompt_seed
from delvm_mm.evaluation.trivial_answers import TRIVIAL_ANSWERS, defeats, split_result
from delvm_mm.registry import type_name


def test_tasks(
    cfg: Config,
    checkpoint: str | None,
    tasks: list[str],
    seeds: list[int] | None = None,
    reporter: ReportHook | None = None,
) -> dict[str, dict[str, Any]]:
    """Score the tasks one after another with one runner.

    Args:
        cfg: With ``tasks``: name -> ``dict(dataloader=..., evaluator=...)``.
        checkpoint: Path of the weights; None for the model as it is built.
        tasks: Names of the tasks to score.
        seeds: Score each task with prompts that each of these chooses; by default the dataset's own seed does.
        reporter: Keeps what a report shows.

    Returns:
        Task -> metrics, ``images_per_s`` of everything (loading, generation, scoring),
        and ``prompt``: how prompts were chosen. With seeds as :func:`mean_and_spread` gives them.

    Raises:
        ValueError: The prompts of a task are the same with all seeds.
    """
    cfg = cfg.copy()
    loaders = {task: _seeded_loaders(cfg.tasks[task].dataloader, task, seeds) for task in tasks}
    cfg.test_dataloader = cfg.tasks[tasks[0]].dataloader
    cfg.test_evaluator = cfg.tasks[tasks[0]].evaluator
    runner = _build_runner(cfg, checkpoint)
    if reporter is not None:
        runner.register_hook(reporter)

    results = {}
    for task in tasks:
        of_seeds = {seed: _score(runner, task, loader, cfg) for seed, loader in loaders[task].items()}
        results[task] = mean_and_spread(of_seeds) if seeds else of_seeds[None]
    return results


def _seeded_loaders(loader: dict, task: str, seeds: list[int] | None) -> dict[int | None, dict]:
    if not seeds:
        return {None: loader}
    return {seed: dict(loader, dataset=with_prompt_seed(loader["dataset"], seed, task)) for seed in seeds}


def _score(runner: Runner, task: str, loader: dict, cfg: Config) -> dict[str, Any]:
    runner._test_dataloader = loader
    runner._test_evaluator = cfg.tasks[task].evaluator
    runner._test_loop = dict()
    for key in [key for key in runner.message_hub.log_scalars if key.startswith("test/")]:
        del runner.message_hub.log_scalars[key]  # of the task before, whose scores the log would repeat
    start = time.perf_counter()
    with sampling_of(runner.model, cfg.tasks[task]):
        metrics = dict(runner.test())
    dataset = runner.test_dataloader.dataset
    metrics[f"{task}/images_per_s"] = len(dataset) / (time.perf_counter() - start)
    metrics["prompt"] = getattr(dataset, "choice", None)
    return metrics


def test_set(cfg: Config, checkpoint: str | None) -> dict[str, dict[str, float]]:
    """Score the test set of a config without tasks.

    Args:
        cfg: With ``test_dataloader`` and ``test_evaluator``.
        checkpoint: Path of the weights; None for the model as it is built.

    Returns:
        'test' -> metrics, and ``test/images_per_s`` of everything.
    """
    runner = _build_runner(cfg.copy(), checkpoint)
    start = time.perf_counter()
    metrics = dict(runner.test())
    metrics["test/images_per_s"] = len(runner.test_dataloader.dataset) / (time.perf_counter() - start)
    return {"test": metrics}


def _build_runner(cfg: Config, checkpoint: str | None) -> Runner:
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "val_dataloader", "val_cfg", "val_evaluator"):
        cfg[key] = None
    cfg.param_scheduler = None
    cfg.auto_scale_lr = None
    cfg.load_from, cfg.resume = None, False
    # Hooks of training have nothing to do here, and may want data that is not there.
    named = cfg.get("default_hooks") or {}
    kept = {name: hook for name, hook in named.items() if name in MMENGINE_HOOKS or type_name(hook) == "PanelHook"}
    cfg.default_hooks = dict(kept, throughput=dict(type="delvm_mm.ThroughputHook"))
    cfg.custom_hooks = [hook for hook in cfg.get("custom_hooks") or [] if type_name(hook) == "PanelHook"]
    cfg.test_cfg = dict()
    runner = build_runner(cfg)
    if checkpoint is not None:
        load_weights(unwrap_model(runner.model), checkpoint)
    return runner


def print_table(results: dict[str, dict[str, float]]) -> None:
    """One table: metric, score, tokenizer ceiling, trivial answers, images a second; and where these are not beaten."""
    split = {(task, key): split_result(key, task) for task, metrics in results.items() for key in metrics}
    given = {whose for whose, _ in split.values()}
    others = [name for name in ("ceiling", *TRIVIAL_ANSWERS) if name == "ceiling" or name in given]
    table = Table("task", "metric", "score", *(name.replace("_", " ") for name in others), "images/s")
    for task, metrics in results.items():
        rate = f"{metrics[f'{task}/images_per_s']:.2f}"
        values = {split[task, key]: value for key, value in metrics.items()}
        spread = {split[task, key]: value for key, value in metrics.get("spread", {}).items()}
        for whose, name in values:
            if whose or name in ("images_per_s", "prompt", "spread", "seeds"):
                continue
            columns = [(whose, name) for whose in ("", *others)]
            table.add_row(task, name, *(_number(values.get(key), spread.get(key)) for key in columns), rate)
        table.add_section()
    console = Console()
    # Into a file or a pipe there is no width to keep to.
    console = console if console.is_terminal else Console(width=max(160, console.width))
    console.print(table)
    for task, metrics in results.items():
        for sentence in defeats(metrics, task):
            console.print(sentence, highlight=False, markup=False)


def print_published(results: dict[str, dict[str, float]], tasks: Mapping[str, Any]) -> None:
    """For each task with ``published=dict(metrics=[...], rows={model: [...]})`` a table of these rows and its own."""
    for task, metrics in results.items():
        published = tasks[task].get("published") if task in tasks else None
        if published:
            table = Table(f"{task}: published", *published["metrics"])
            for model, scores in published["rows"].items():
                table.add_row(model, *(f"{score:.2f}" for score in scores))
            table.add_section()
            table.add_row("this model", *(_number(metrics.get(f"{task}/{name}")) for name in published["metrics"]))
            console = Console()
            console = console if console.is_terminal else Console(width=max(160, console.width))
            console.print(table)


def _number(value: Any, spread: float | None = None) -> str:
    if spread:
        return f"{value:.4g} ± {spread:.2g}"
    return f"{value:.4g}" if isinstance(value, int | float) else "" if value is None else str(value)


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = parse_run_arguments(make_parser(), arguments)
    cfg = load_config(args.config, args.cfg_options)
    cfg.tasks = tasks_of(cfg)
    checkpoint = None if args.checkpoint.lower() == "none" else args.checkpoint
    add_model(cfg, args.config, checkpoint, cfg.tasks, args.cfg_options or ())
    cfg.pop("model_wrapper_cfg", None)  # each process answers its own prompts, with the whole model
    set_up_distributed(cfg, args.launcher)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    has_tasks = bool(cfg.get("tasks"))
    if not has_tasks and not cfg.get("test_dataloader"):
        raise ValueError(
            f"{args.config} defines no tasks; add tasks=dict(...) as in configs/_base_/tasks/ (or, for a classifier, a "
            "test_dataloader and a test_evaluator)"
        )
    if not has_tasks and (args.task or args.show_dir or args.html):
        raise ValueError(f"--task, --show-dir and --html are for configs with tasks, {args.config} defines none")
    tasks = list(choose_tasks(cfg.tasks, args.task, f"--task: {args.config}")) if has_tasks else []
    if args.prompt_seeds and (not has_tasks or len(set(args.prompt_seeds)) < len(args.prompt_seeds)):
        raise ValueError(
            f"--prompt-seeds {args.prompt_seeds}: expected different seeds, and a config with tasks: {args.config}"
        )
    if args.show_dir:
        panels = dict(type="delvm_mm.PanelHook", out_dir=args.show_dir, max_panels=args.max_panels)
        cfg.merge_from_dict({"default_hooks.panels": panels})
    use_safe_checkpoints()
    reporter = ReportHook(args.max_panels) if args.html else None
    seeds = args.prompt_seeds
    results = test_tasks(cfg, checkpoint, tasks, seeds, reporter) if has_tasks else test_set(cfg, checkpoint)
    if is_main_process():
        if args.out:
            os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
            write_atomically(args.out, json.dumps(results, indent=2).encode())
        print_table(results)
        print_published(results, cfg.get("tasks") or {})
        if reporter is not None:
            write_report(args, reporter, results)


def write_report(args: argparse.Namespace, reporter: ReportHook, results: dict[str, dict[str, float]]) -> None:
    """Write the page of what was scored."""
    gpu = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    facts = {
        "model": args.checkpoint,
        "config": args.config,
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "machine": ", ".join([f"{os.cpu_count()} cores, {platform.machine()}", *gpu]),
        "versions": f"delvm_mm {delvm_mm.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }
    seeds = args.prompt_seeds or [None]
    if args.prompt_seeds:
        facts["prompts"] = f"scores are means over {len(seeds)} seeds, the answers those of seed {seeds[0]}"
    shown = []
    for (task, metrics), collected in zip(results.items(), reporter.collected[:: len(seeds)], strict=True):
        numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        chosen = {name: value for name, value in (metrics.get("prompt") or {}).items() if value is not None}
        prompt = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in chosen.items())
        shown.append(replace(collected, task=task, metrics=numbers, prompt=prompt))
    page = render_report(f"Scores of {args.checkpoint}", facts, shown)
    os.makedirs(os.path.dirname(os.path.abspath(args.html)), exist_ok=True)
    write_atomically(args.html, page.encode())
    print(f"report: {args.html}")


if __name__ == "__main__":
    main()
