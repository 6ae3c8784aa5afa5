"""The page of config keys: those that tools read, checked against the tools, and the arguments of every ``type``."""

import inspect
from pathlib import Path

import griffe
from mmengine.runner import Runner

from delvm_mm.commands.tokenize import STORE_KEYS, TOKENIZATION_KEYS
from delvm_mm.engine.launch import OWN_KEYS
from delvm_mm.precompute import tokenize_clips
from docstrings import PlainMarkdown
from registries import own_names, reference

OURS = {
    "tasks": "What `tools/test.py` scores: name of a task -> `dataloader` (of a `VisionPromptDataset`) and `evaluator` "
    "(a `VisionPromptEvaluator`), and, if its tokens are not chosen as the model's `sampler` says, a `sampler`.",
    "stores": "What `tools/tokenize_dataset.py` makes: a list of dicts, see [below](#an-entry-of-stores).",
    "tokenization": "How it makes them, see [below](#tokenization).",
    "tokenizer": "The tokenizer that makes the stores: a folder, `delvm_mm://<name>`, or `dict(type='VQGAN', ...)`.",
    "runner_type": "Class of the runner; `FlexibleRunner` for DeepSpeed.",
    "strategy": "Of `FlexibleRunner`: how the model is spread over devices.",
    "model_wrapper_cfg": "What the model is wrapped in where there are several processes, as `FullyShardedDeLVM`; "
    "MMEngine's DDP by default.",
}
MMENGINE = {
    "model": "The model that is trained or tested, `dict(type='DeLVM', ...)`.",
    "work_dir": "Where logs and checkpoints go; by default `work_dirs/<name of the config>`.",
    "train_dataloader": "Batches to train on: `batch_size`, `dataset`, `sampler`, `collate_fn`, `num_workers`.",
    "val_dataloader": "The same for validation.",
    "test_dataloader": "The same for `tools/test.py` where there are no `tasks` (classification).",
    "train_cfg": "The loop of training: `type='AccumulatingTrainLoop'`, `max_iters`, `val_interval`, "
    "`global_batch_tokens`.",
    "val_cfg": "The loop of validation: `ValLoop`, or `TaskValLoop` with scores of the tasks.",
    "test_cfg": "The loop of testing.",
    "auto_scale_lr": "`base_batch_size`: sentences of a step that the rate is for; read with `--auto-scale-lr`.",
    "optim_wrapper": "`optimizer`, `clip_grad`, `accumulative_counts`, `paramwise_cfg`, and how they are put together: "
    "`constructor`.",
    "param_scheduler": "Schedules of the learning rate, a list.",
    "val_evaluator": "Metrics of validation.",
    "test_evaluator": "Metrics of testing.",
    "default_hooks": "What happens beside training, by name: see [hooks](hooks.md).",
    "custom_hooks": "Hooks of your own, a list; empty here.",
    "data_preprocessor": "What brings a batch to the device.",
    "load_from": "Weights to start from: a checkpoint, a model folder, or `delvm_mm://<name>`.",
    "resume": "Whether a run goes on; `--resume` of `tools/train.py` is the way.",
    "launcher": "Set by `--launcher`.",
    "env_cfg": "Processes and backends.",
    "log_processor": "How the log is smoothed; `LogProcessor` leaves validations as they are.",
    "log_level": "`'INFO'`, `'DEBUG'`, ...",
    "visualizer": "Where curves and panels go: files and TensorBoard.",
    "default_scope": "`'delvm_mm'`: names without a prefix are of this package and of MMEngine.",
    "randomness": "`seed`, and whether PyTorch is to be deterministic.",
    "experiment_name": "Of the log; by default name and time.",
}
PASSED = ("cfg", "self")


def config_keys_page(root: Path) -> str:
    """Markdown: top-level keys, keys of stores, arguments of registered classes.

    Args:
        root: Root of the repository.

    Returns:
        The page.

    Raises:
        RuntimeError: A key is explained that no tool reads, or the reverse.
    """
    parameters = set(inspect.signature(Runner.__init__).parameters) - set(PASSED)
    expect("MMEngine's top-level keys", MMENGINE, parameters)
    expect("top-level keys of this package", OURS, set(OWN_KEYS))
    lines = [
        "# Config keys",
        "",
        "A config is a Python file whose names are keys. What `_base_` names is read first; dicts of the same key are "
        "merged, `_delete_=True` in a dict drops what it had. Any key can be set on the command line, dotted: "
        "`--cfg-options train_cfg.max_iters=100 stores.0.task=seg`. A key that nothing reads and that looks like one "
        "that is read is refused, and so is an option for a variable of the config from which others were computed.",
        "",
        "Other top-level names are variables of the config. One of them is read too: `size`, the side of the model's "
        "images in pixels (by default the tokenizer's `resolution`).",
        "",
        "## Top level: this package",
        "",
        *table(("key", "meaning"), [(f"`{key}`", text) for key, text in OURS.items()]),
        "",
        "## Top level: MMEngine",
        "",
        *table(("key", "meaning"), [(f"`{key}`", text) for key, text in MMENGINE.items()]),
        "",
    ]
    package = griffe.load("delvm_mm", search_paths=[root], extensions=griffe.load_extensions(PlainMarkdown()))
    meanings = argument_meanings(package[f"{tokenize_clips.__module__}.tokenize_clips".removeprefix("delvm_mm.")])
    for title, keys in (("An entry of stores", STORE_KEYS), ("tokenization", TOKENIZATION_KEYS)):
        own = dict(dataset="The data set, with a pipeline that ends with `PackClip`.", out="Folder of the store.")
        rows = [(f"`{key}`", own.get(key) or meanings[key]) for key in keys]
        lines += [f"## {title}", "", *table(("key", "meaning"), rows), ""]
    lines += ["## Arguments of every type", "", "By registry; the other keys of `dict(type=...)`.", ""]
    for _, name, cls in own_names():
        if name == getattr(cls, "__name__", ""):
            lines += arguments_of(name, cls, package)
    return "\n".join(lines) + "\n"


def arguments_of(name: str, cls: type, package: griffe.Module) -> list[str]:
    """Lines of Markdown on one class: nothing where it takes no arguments."""
    meanings = argument_meanings(package[f"{cls.__module__}.{cls.__qualname__}".removeprefix("delvm_mm.")])
    rows = []
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name not in meanings:
            continue
        default = "" if parameter.default is parameter.empty else f"`{parameter.default!r}`"
        rows.append((f"`{parameter.name}`", default, meanings[parameter.name]))
    if not rows:
        return []
    return [f"### {name}", "", f"See {reference(name, cls)}.", "", *table(("key", "default", "meaning"), rows), ""]


def argument_meanings(described: griffe.Object) -> dict[str, str]:
    """What a docstring says of each argument, each in one line."""
    if described.docstring is None:
        return {}
    meanings = {}
    for section in described.docstring.parse("google", warnings=False):
        if section.kind is griffe.DocstringSectionKind.parameters:
            meanings |= {one.name: " ".join(one.description.split()) for one in section.value}
    return meanings


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a Markdown table."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, ("---",) * len(head), *rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]


def expect(what: str, explained: dict[str, str], read: set[str]) -> None:
    """Refuse keys that are explained and not read, or read and not explained."""
    if differing := sorted(set(explained) ^ read):
        raise RuntimeError(f"{what}: {', '.join(differing)} explained in {__file__} or read by the code, but not both")
