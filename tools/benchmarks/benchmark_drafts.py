"""Answers with drafts and without, in turns, of the model that the package carries: passes and time.

Prompts and queries are drawn scenes that training does not see, as ``configs/zoo/_base_tasks.py`` has them (masks, body
keypoints, derained images), and those of the model folder's photographs. Times are CPU seconds of this process on one
thread, in which other programs on the machine do not count, though they make them longer: what counts is the ratio,
the median over queries of pairs that ran one after the other. Both answers are compared.

    python tools/benchmarks/benchmark_drafts.py
    python tools/benchmarks/benchmark_drafts.py --tasks seg_scenes seg --queries 2 --batch 8

With ``--llamacpp-python PYTHON``, an interpreter that has llama-cpp-python, a second table has whole greedy answers,
prompt and query read anew, by the clock and beside llama.cpp with the same weights in float32.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.apis.images import check_pairs, list_sources
from delvm_mm.generation import engine
from delvm_mm.models.gguf_export import save_as_gguf
from delvm_mm.registry import DATASETS
from llamacpp import llamacpp
from machine import machine

TASKS = Path(__file__).resolve().parents[2] / "configs/zoo/_base_tasks.py"
SAMPLERS = dict(greedy=dict(temperature=0.0), drawn=None)  # None: the model's own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks", nargs="+", default=["seg_scenes", "pose_scenes", "derain_scenes", "denoising", "colorization"]
    )
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1, help="queries that are answered together, behind one prompt")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--llamacpp-python", metavar="PYTHON", help="interpreter with llama-cpp-python, for a peer")
    args = parser.parse_args()
    torch.set_num_threads(1)
    init_default_scope("delvm_mm")
    inferencer = DeLVMInferencer("mini", device="cpu", show_progress=False)
    passes = count_passes()
    table = Table("task", "sampler", "tokens a pass", "CPU s, drafts", "none", "times as fast", "least", "same tokens")
    for task in args.tasks:
        prompts = prompts_of(task, inferencer, args.queries * args.batch)
        for name in args.samplers:
            row = measure(inferencer, prompts, SAMPLERS[name], passes, args)
            table.add_row(task, name, *row)
            Console(stderr=True).print(task, name, *row)
    print(machine(), args.dtype, f"batches of {args.batch}", sep=", ")
    Console(width=120).print(table)
    if args.llamacpp_python:
        Console(width=120).print(whole_answers(inferencer, args))


def whole_answers(inferencer: DeLVMInferencer, args: argparse.Namespace) -> Table:
    """Seconds of greedy answers from the prompt on, ours in float32 and llama.cpp's, one thread each."""
    model, tokens = inferencer.model, inferencer.generator.tokens_per_image
    table = Table("task", "s, drafts", "none", "llama.cpp, f16 cache", "f32 cache", "times as fast", "same tokens")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        save_as_gguf(model, file := Path(folder) / "mini.gguf", "f32")
        peers = {
            cache: running.enter_context(llamacpp(args.llamacpp_python, file, cache, model.max_positions, threads=1))
            for cache in ("f16", "f32")
        }
        for task in args.tasks:
            seconds: dict[str, list[float]] = {name: [] for name in ("2d", "none", *peers)}
            same = []
            for row in prompts_of(task, inferencer, args.queries):
                answers = {}
                for draft in ("2d", "none"):
                    begin = time.perf_counter()
                    grid = inferencer.generator.grid
                    answers[draft] = model.generate(row[None], tokens, dict(temperature=0.0), draft=draft, grid=grid)
                    seconds[draft].append(time.perf_counter() - begin)
                for cache, peer in peers.items():
                    said = peer.answer([row.tolist()], len(row) - tokens, tokens)
                    seconds[cache].append(said["seconds"])
                    answers[cache] = torch.tensor(said["tokens"])
                same.append(all(torch.equal(answer, answers["none"]) for answer in answers.values()))
            medians = {name: statistics.median(times) for name, times in seconds.items()}
            ratio = min(medians[cache] for cache in peers) / medians["2d"]
            shown = (f"{value:.2f}" for value in medians.values())
            table.add_row(task, *shown, f"{ratio:.2f}", f"{statistics.mean(same):.0%}")
    return table


def count_passes() -> list[int]:
    """A list that grows by one with every pass of the model behind the prompt."""
    passes: list[int] = []
    for name in ("decode_one_token", "decode_tokens"):
        plain = getattr(engine, name)
        setattr(engine, name, lambda *given, plain=plain: passes.append(1) or plain(*given))
    return passes


def prompts_of(task: str, inferencer: DeLVMInferencer, count: int) -> torch.Tensor:
    """Tokens count x L of prompts and queries."""
    if task.endswith("_scenes"):
        dataset = DATASETS.build(Config.fromfile(TASKS).tasks[task].dataloader.dataset)
        images = torch.stack([torch.as_tensor(np.asarray(dataset[k]["inputs"])) for k in range(count)])
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        return inferencer.model.tokenizer.encode(images.flatten(0, 1)).view(count, -1)
    folder = inferencer.own_prompt(task)
    pairs = [inferencer.pipeline.pair(*pair, task) for pair in check_pairs(folder)]
    shown = inferencer.generator.encode([image.pixels for pair in pairs for image in pair]).flatten()
    queries = [inferencer.pipeline(source, task).pixels for source in list_sources(str(Path(folder) / "queries"))]
    queries = inferencer.generator.encode([queries[k % len(queries)] for k in range(count)])
    return torch.cat((shown.expand(count, -1), queries), dim=1)


def measure(
    inferencer: DeLVMInferencer,
    prompts: torch.Tensor,
    sampler: dict | None,
    passes: list[int],
    args: argparse.Namespace,
) -> list[str]:
    """One line of the table, from tokens a pass on."""
    grid, tokens = inferencer.generator.grid, inferencer.generator.tokens_per_image
    seconds: dict[str, list[float]] = {"2d": [], "none": []}
    same, drafted = [], 0
    for number, start in enumerate(range(0, len(prompts), args.batch)):
        rows, answers = prompts[start : start + args.batch], {}
        options = dict(sampler=sampler, grid=grid, dtype=args.dtype, prompt_length=rows.shape[1] - tokens)
        inferencer.model.generate(rows, 1, **options)  # packs weights, reads the prompt
        for draft in ("2d", "none") if number % 2 else ("none", "2d"):
            passes.clear()
            begin = time.process_time()
            answers[draft] = inferencer.model.generate(rows, tokens, draft=draft, **options)
            seconds[draft].append(time.process_time() - begin)
            drafted += len(passes) if draft == "2d" else 0
        same.append((answers["2d"] == answers["none"]).float().mean().item())
    ratios = [without / with_drafts for without, with_drafts in zip(seconds["none"], seconds["2d"], strict=True)]
    return [
        f"{len(same) * tokens / (drafted + len(same)):.2f}",
        *(f"{statistics.median(seconds[draft]):.2f}" for draft in ("2d", "none")),
        f"{statistics.median(ratios):.2f}",
        f"{min(ratios):.2f}",
        f"{statistics.mean(same):.1%}",
    ]


if __name__ == "__main__":
    main()
