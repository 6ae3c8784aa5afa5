"""Fills the teacher cache of ``delvm cache-teacher``."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import init_default_scope

from delvm_mm.commands.parsers.cache_teacher import make_parser
from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.engine.configs.hooks import hooks_of
from delvm_mm.engine.launch import load_config, load_weights, use_safe_checkpoints, user_errors
from delvm_mm.models import DeLVM
from delvm_mm.precompute import cache_teacher
from delvm_mm.precompute.long_runs import processes_of_torchrun
from delvm_mm.progress import progress_of
from delvm_mm.registry import DATASETS, MODELS, type_name
from delvm_mm.stores import TeacherCache


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    config = load_config(args.config, args.cfg_options, needed=("model", "train_dataloader"))
    init_default_scope(config.get("default_scope", "delvm_mm"))
    use_safe_checkpoints()
    if args.launcher == "pytorch" and "RANK" not in os.environ:
        raise ValueError(
            "--launcher pytorch: torchrun did not start this process; call torchrun --nproc_per_node N "
            "--no-python delvm cache-teacher ..."
        )
    with processes_of_torchrun() as device:
        make_cache(args, config, args.device or device)


def make_cache(args: argparse.Namespace, config: Config, device: str | None) -> None:
    """Build data set and teacher, and write the cache."""
    dataset = fixed_sentences(config, args.config)
    teacher, temperature = teacher_of(config, args.config)
    load_weights(teacher, args.checkpoint)
    if args.temperature is not None:
        temperature = args.temperature
    out = args.out or str(Path(config.work_dir) / "teacher_cache")
    shown = []  # sentences done, at each report
    with progress_of(out, "sentences") as show:

        def report(done: int, total: int) -> None:
            shown.append(done)
            show(done, total)

        cache = cache_teacher(
            dataset,
            teacher.requires_grad_(False),
            out,
            top_k=args.top_k,
            temperature=temperature,
            dtype=args.dtype,
            precision=args.precision,
            batch=args.batch,
            shard_sentences=args.shard_sentences,
            device=device,
            progress=report,
        )
    if is_main_process():
        print(summary(cache, dataset, shown))


def fixed_sentences(config: Config, path: str) -> VisualSentenceDataset:
    """The training sentences of a config, in 'fixed' assembly."""
    dataset = config.train_dataloader.get("dataset")
    if not isinstance(dataset, dict) or type_name(dataset) != "VisualSentenceDataset":
        raise ValueError(
            f"{path}: train_dataloader.dataset is {dataset and dataset.get('type')!r}, expected a "
            "VisualSentenceDataset; a teacher cache is of visual sentences"
        )
    if dataset.get("assembly", "random") != "fixed" and is_main_process():
        print(
            f"{path} has train_dataloader.dataset.assembly={dataset.get('assembly', 'random')!r}. A cache is of "
            "'fixed' sentences: it is made with assembly='fixed', and the student's config has to say so, too"
        )
    return DATASETS.build({**dataset, "assembly": "fixed"})


def teacher_of(config: Config, path: str) -> tuple[DeLVM, float]:
    """The teacher that a config names, without its weights, and the temperature that goes with it."""
    model, temperature = config.model, 1.0
    for hook in hooks_of(config):
        if type_name(hook) == "DistillationHook":
            temperature = (hook.get("loss") or {}).get("temperature", 1.0)
            named = hook.get("teacher", {}).get("cfg")
            if named is not None:
                cfg = load_config(named, needed=("model",)) if isinstance(named, str) else named
                # One tokenizer serves both; weights trained with another one are refused when they are loaded.
                model = {**cfg["model"], "tokenizer": config.model.get("tokenizer")}
            elif is_main_process():
                print(f"the DistillationHook of {path} names no teacher.cfg: its model is taken for the teacher")
    teacher = MODELS.build({**model, "init_cfg": None})
    if not isinstance(teacher, DeLVM):
        raise ValueError(f"{path}: the teacher is a {type(teacher).__name__}, expected a DeLVM")
    return teacher, temperature


def summary(cache: TeacherCache, dataset: VisualSentenceDataset, shown: list[int]) -> str:
    """One line about a finished cache."""
    if shown and shown[0] == shown[-1]:
        return f"{cache.path}: finished before, nothing to do ({len(cache)} sentences)"
    size = sum(shard["bytes"] for shard in cache.index["shards"])
    resumed = f", the first {shown[0]} by an earlier run" if shown and shown[0] else ""
    return (
        f"{cache.path}: {len(cache)} sentences of {dataset.sentence_length} tokens, top {cache.top_k} of "
        f"{cache.num_embeddings} codes, {size / 1e6:,.1f} MB, "
        f"{size / len(cache) / dataset.sentence_length:.1f} bytes a token{resumed}"
    )


if __name__ == "__main__":
    main()
