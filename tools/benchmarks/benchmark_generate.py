"""Answering prompts: Hugging Face ``LlamaForCausalLM.generate`` and ``DeLVM.generate``, the same weights, in turns.

A prompt is pairs of images and a query, the answer one image, greedy. Times are those of one image and the best
of all rounds; every method has run once before. Hugging Face answers one query at a time. Memory is the most that this
first call took beyond the weights, our packed copy of them included; without a GPU it is the growth of resident memory.

    python tools/benchmarks/benchmark_generate.py                    # LLaMA-80M; about 20 minutes on two CPU cores
    python tools/benchmarks/benchmark_generate.py --quick            # a tiny model, seconds
    python tools/benchmarks/benchmark_generate.py --device cuda --arch 300m --queries 64 --precisions bfloat16
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import CompileConfig, LlamaForCausalLM

from delvm_mm.hardware import choose_device
from delvm_mm.models import DeLVM, delvm_from_huggingface
from delvm_mm.models.backbones.llama import resolve_arch
from machine import machine, resident
from peer import llama_config

TINY = dict(embed_dims=128, num_layers=2, num_heads=4)
CODES = 8192
PUBLISHED_SECONDS = {"300m": 2.1, "1b": 6.2}  # of one answer, in the paper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="80m", choices=["80m", "300m", "1b", "tiny"])
    parser.add_argument("--pairs", type=int, default=3, help="of images in the prompt")
    parser.add_argument("--image-tokens", type=int, default=256)
    parser.add_argument("--queries", type=int, default=16, help="that share the prompt in one batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", default=str(choose_device()))
    parser.add_argument("--no-compile", action="store_true", help="leave out what is compiled; compiling takes minutes")
    parser.add_argument("--quick", action="store_true", help="a tiny model, short prompts, one round")
    args = parser.parse_args()
    if args.quick:
        args.arch, args.image_tokens, args.queries, args.rounds = "tiny", 32, 4, 1

    print(machine(args.device), f"transformers {transformers.__version__}", sep=", ")
    prompt_length, answer = 2 * args.pairs * args.image_tokens, args.image_tokens
    torch.manual_seed(0)
    prompt = torch.randint(CODES, (1, prompt_length), device=args.device)
    queries = torch.randint(CODES, (args.queries, answer), device=args.device)
    tokens = torch.cat((prompt.expand(args.queries, -1), queries), dim=1)
    methods: dict[str, Callable[[], Tensor]] = {}
    models = []
    for name in args.precisions:
        theirs, ours = build(args.arch, getattr(torch, name), args.device, prompt_length + 2 * answer)
        models.append(ours)
        methods |= methods_of(name, theirs, ours, tokens, prompt_length, answer, args)

    # Progress goes to stderr: on a busy machine a round takes long.
    log = Console(stderr=True)
    answers, seconds, memory = {}, {name: [] for name in methods}, {}
    for name, method in methods.items():
        for model in models:
            model.train().eval()  # gives packed weights and prompts back
        answers[name], first, memory[name] = measure(method, args.device)
        log.print(f"{name}: {first:.2f} s (first run)")
    for _ in range(args.rounds):
        for name, method in methods.items():
            seconds[name].append(measure(method, args.device)[1])
            log.print(f"{name}: {seconds[name][-1]:.2f} s")
    print_table(answers, seconds, memory, args)
    if args.device.startswith("cuda"):
        print_bound(methods, args, prompt_length, answer)


def build(arch: str, dtype: torch.dtype, device: str, context: int) -> tuple[LlamaForCausalLM, DeLVM]:
    """Hugging Face's model with random weights, and DeLVM with the same."""
    shape = resolve_arch(TINY if arch == "tiny" else arch)
    config = llama_config(shape, CODES, max(2048, context))
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = delvm_from_huggingface(folder)
    return theirs.to(device, dtype), ours.to(device, dtype)


def methods_of(
    precision: str,
    theirs: LlamaForCausalLM,
    ours: DeLVM,
    tokens: Tensor,
    prompt_length: int,
    answer: int,
    args: argparse.Namespace,
) -> dict[str, Callable[[], Tensor]]:
    """Everything that is timed in one precision, by name; each returns the tokens that it wrote."""

    def hugging_face(**options: object) -> Tensor:
        row = tokens[:1]
        length = dict(min_new_tokens=answer, max_new_tokens=answer)
        written = theirs.generate(row, attention_mask=torch.ones_like(row), do_sample=False, **length, **options)
        return written[:, row.shape[1] :]

    def shared(compile: bool = False, cold: bool = True) -> Tensor:
        if cold:
            ours._engine.prompts.shrink(0)
        return ours.generate(tokens, answer, prompt_length=prompt_length, compile=compile)

    compiled = CompileConfig()
    compiled._compile_all_devices = True
    static = dict(cache_implementation="static")
    methods = {
        "HF default": hugging_face,
        "HF static": lambda: hugging_face(**static, disable_compile=True),
        "HF compiled": lambda: hugging_face(**static, compile_config=compiled),
        "ours, one query": lambda: ours.generate(tokens[:1], answer),
        "ours compiled, one query": lambda: ours.generate(tokens[:1], answer, compile=True),
        "ours, batch": shared,
        "ours, batch, prompt known": lambda: shared(cold=False),
        "ours compiled, batch": lambda: shared(compile=True),
    }
    on_cpu = args.device == "cpu"
    left_out = {name for name in methods if "compiled" in name and (args.no_compile or (on_cpu and "ours" in name))}
    return {f"{precision} {name}": method for name, method in methods.items() if name not in left_out}


def measure(method: Callable[[], Tensor], device: str) -> tuple[Tensor, float, int]:
    """What a method wrote, seconds of one image, and the bytes that it took at its peak."""
    gc.collect()
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak of resident memory
        before = resident("VmRSS")
    start = time.perf_counter()
    written = method()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / len(written)
    peak = torch.cuda.max_memory_allocated() if on_gpu else resident("VmHWM")
    return written.cpu(), seconds, max(0, peak - before)


def print_table(
    answers: dict[str, Tensor], seconds: dict[str, list[float]], memory: dict[str, int], args: argparse.Namespace
) -> None:
    """One line a method; the ratios say how many times as fast as Hugging Face a method is."""
    best = {name: min(times) for name, times in seconds.items()}
    first = f"{args.precisions[0]} HF default"
    table = Table("method", "s/image, best", "median", " x HF default", " x best HF of its type", "same tokens", "MiB")
    for name, times in seconds.items():
        rival = min(best[other] for other in best if other.startswith(name.split()[0] + " HF"))
        table.add_row(
            name,
            f"{best[name]:.3f}",
            f"{statistics.median(times):.3f}",
            f"{best[first] / best[name]:.2f}",
            f"{rival / best[name]:.2f}",
            f"{(answers[name][0] == answers[first][0]).float().mean():.0%}",
            f"{memory[name] / 2**20:.0f}",
        )
    if args.arch in PUBLISHED_SECONDS:
        table.add_row("published", f"{PUBLISHED_SECONDS[args.arch]:.3f}")
    Console(width=150).print(table)
    print(f"batch: {args.queries} queries behind one prompt; same tokens: share of the first query's equal to {first}")


def print_bound(methods: dict, args: argparse.Namespace, prompt_length: int, answer: int) -> None:
    """How long reading the weights and the cache once a token would take, at the speed of a copy."""
    source = torch.empty(2**30, dtype=torch.uint8, device=args.device)
    target = torch.empty_like(source)
    seconds = min(measure(lambda: target.copy_(source)[:1], args.device)[1] for _ in range(10))
    bandwidth = 2 * source.numel() / seconds
    shape = resolve_arch(TINY if args.arch == "tiny" else args.arch)
    width, layers = shape["embed_dims"], shape["num_layers"]
    size = getattr(torch, args.precisions[0]).itemsize
    weights = layers * (4 * width**2 + 3 * width * shape["feedforward_channels"]) + CODES * width
    cache = 2 * layers * width * (prompt_length + answer + answer // 2)
    bound = answer * size * (weights + cache) / bandwidth
    print(f"copy {bandwidth / 1e9:.0f} GB/s; weights and cache once a token, {args.precisions[0]}: {bound:.3f} s")


if __name__ == "__main__":
    main()
