"""A training step: Hugging Face ``LlamaForCausalLM`` and ``DeLVM``, the same shape, and what a teacher adds.

Every method has a process of its own, which waits while another one works, and takes a step when its turn comes. A step
is forward, backward, clipping and fused AdamW. Times are the best and the median of all rounds; memory is the most that
a step held: weights, optimizer state and what comes and goes within it. "teacher forward" is the teacher's pass alone,
to be compared with what distillation adds to the step.

    python tools/benchmarks/benchmark_train.py                       # about 10 minutes on two CPU cores
    python tools/benchmarks/benchmark_train.py --quick               # a tiny model, a minute
    python tools/benchmarks/benchmark_train.py --device cuda --arch 300m --teacher 1b --batch 16 --precision bfloat16
"""

import argparse
import atexit
import gc
import math
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from machine import machine, resident

ARCHITECTURES: dict[str, Any] = {
    "256": dict(embed_dims=256, num_layers=12, num_heads=4),
    "512": dict(embed_dims=512, num_layers=12, num_heads=8),
    "tiny": dict(embed_dims=64, num_layers=2, num_heads=2),
}
PEER = ("HF", "HF compiled")
METHODS = (*PEER, "ours", "ours compiled", "teacher forward", "ours, teacher online", "ours, teacher cached")
# Large blocks go back to the system at once, so that resident memory shows what a step holds.
MEMORY_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def main() -> None:
    from delvm_mm.hardware import choose_device  # not in the processes of the peer, whose memory is measured

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="256", help="80m, 300m, 1b, or 256 (12 layers, 256 wide)")
    parser.add_argument("--teacher", default="512", help="likewise; 512 is 12 layers, 512 wide")
    parser.add_argument("--codes", type=int, default=8192)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--top-k", type=int, default=32, help="of the cached teacher")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default=str(choose_device()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--quick", action="store_true", help="a tiny model, two rounds")
    args = parser.parse_args()
    if args.quick:
        args.arch = args.teacher = "tiny"
        args.codes, args.context, args.rounds = 256, 512, 2
    print(machine(args.device), f"{args.precision}", sep=", ")
    print(f"{args.arch}, {args.codes} codes, batch {args.batch} x {args.context} tokens; teacher {args.teacher}")
    log = Console(stderr=True)
    memory = {}
    for name in args.methods:  # one process at a time
        with Worker(name, args, MEMORY_ENVIRONMENT) as worker:
            worker.ask("warm up")
            memory[name] = max(worker.ask("memory") for _ in range(2))
        log.print(f"{name}: {memory[name] / 2**20:.0f} MiB")
    workers = {name: Worker(name, args) for name in args.methods}
    seconds: dict[str, list[float]] = {name: [] for name in args.methods}
    for name, worker in workers.items():
        log.print(f"{name}: first steps {worker.ask('warm up'):.1f} s")
    for number in range(args.rounds):
        for name, worker in workers.items():
            seconds[name].append(worker.ask("step"))
        last = ", ".join(f"{name} {times[-1]:.2f}" for name, times in seconds.items())
        log.print(f"round {number + 1}/{args.rounds}: {last}")
    for worker in workers.values():
        worker.close()
    print_table(seconds, memory, args)


class Worker:
    """A method in a process of its own."""

    def __init__(self, name: str, args: argparse.Namespace, environment: dict[str, str] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        kept = dict(os.environ)
        os.environ.update(environment or {})
        self.process = context.Process(target=work, args=(other, name, args), daemon=True)
        self.process.start()
        os.environ.clear()
        os.environ.update(kept)

    def ask(self, what: str) -> float:
        """Send a request and wait for its figure."""
        self.connection.send(what)
        return self.connection.recv()

    def close(self) -> None:
        """End the process."""
        self.connection.send(None)
        self.process.join()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def work(connection: Connection, name: str, args: argparse.Namespace) -> None:
    """What a worker does: build the method, then answer requests."""
    torch.manual_seed(0)
    step, live = METHOD_BUILDERS[name](args)
    while (request := connection.recv()) is not None:
        if request == "warm up":
            connection.send(sum(timed(step, args.device) for _ in range(3)))
        elif request == "step":
            connection.send(timed(step, args.device))
        else:
            connection.send(peak(step, args.device) + live())


def timed(step: Callable[[], None], device: str) -> float:
    """Seconds of a step."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(step: Callable[[], None], device: str) -> int:
    """Bytes that a step takes at its peak, beyond those that are there before it."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of resident memory
    before = resident("VmRSS")
    step()
    return max(0, resident("VmHWM") - before)


def shape_of(arch: str) -> dict[str, int]:
    """A full description of an architecture."""
    from delvm_mm.models.backbones.llama import resolve_arch

    return resolve_arch(ARCHITECTURES.get(arch, arch))


def delvm(args: argparse.Namespace, arch: str) -> nn.Module:
    """A DeLVM with random weights."""
    from delvm_mm.models import DeLVM

    return DeLVM(
        None,
        dict(type="delvm_mm.LLaMA", arch=shape_of(arch), max_positions=args.context),
        dict(type="delvm_mm.TokenEmbedding", num_embeddings=args.codes),
        dict(type="delvm_mm.NextTokenHead", num_embeddings=args.codes),
    ).to(args.device)


def hugging_face(args: argparse.Namespace, compiled: bool) -> tuple[Callable[[], None], Callable[[], int]]:
    """The peer's step with its own loss."""
    from transformers import LlamaForCausalLM

    from peer import llama_config

    config = llama_config(shape_of(args.arch), args.codes, args.context, use_cache=False)
    model = LlamaForCausalLM(config).to(args.device).train()
    if compiled:
        model.compile()
    return training_step(model, lambda tokens: model(input_ids=tokens, labels=tokens).loss, args)


def ours(args: argparse.Namespace, compiled: bool = False, teacher: str | None = None):
    """Our step, alone or with a teacher."""
    from delvm_mm.engine.distillation.online import OnlineTeacher
    from delvm_mm.models import LogitsKLLoss

    model = delvm(args, args.arch).train()
    if compiled:
        for layer in model.backbone.layers:
            layer.compile()
    if teacher == "online":
        frozen = delvm(args, args.teacher).requires_grad_(False).eval()
        model.extra_losses.append(OnlineTeacher(frozen, LogitsKLLoss()))
    samples = None
    if teacher == "cached":
        extra_loss, samples = cached_teacher(args)
        model.extra_losses.append(extra_loss)
    return training_step(model, lambda tokens: sum(model(tokens, samples, mode="loss").values()), args)


def cached_teacher(args: argparse.Namespace):
    """A teacher cache on disk, and the data samples of a batch; what the teacher says does not matter here."""
    from delvm_mm.datasets import VisualSentenceDataset
    from delvm_mm.engine.distillation.offline import CachedTeacher
    from delvm_mm.models import LogitsKLLoss
    from delvm_mm.precompute import cache_teacher
    from delvm_mm.stores import TokenStoreWriter

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    side = math.isqrt(args.context // 8)
    layout = dict(clip_shape=(2, side**2), grid=(side, side), num_embeddings=args.codes)
    writer = TokenStoreWriter(f"{folder}/store", **layout, tokenizer_fingerprint="none", task="seg")
    writer.add(torch.randint(args.codes, (4 * args.batch, 2, side**2)).numpy())
    writer.finish()
    dataset = VisualSentenceDataset(f"{folder}/store", context=args.context, assembly="fixed")
    device = args.device
    cache_teacher(dataset, delvm(args, "tiny"), f"{folder}/cache", top_k=args.top_k, device=device)
    return CachedTeacher(f"{folder}/cache", LogitsKLLoss()), [sample["data_samples"] for sample in dataset]


def teacher_forward(args: argparse.Namespace):
    """The teacher's logits of a batch."""
    model = delvm(args, args.teacher).requires_grad_(False).eval()
    tokens = torch.randint(args.codes, (args.batch, args.context), device=args.device)

    @torch.no_grad()
    def step() -> None:
        with autocast(args):
            model(tokens)

    return step, lambda: _bytes(model)


def training_step(model: nn.Module, loss_of: Callable, args: argparse.Namespace):
    """A step on random tokens, and the bytes that live between two steps."""
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(args.codes, (args.batch, args.context), device=args.device)

    def step() -> None:
        with autocast(args):
            loss = loss_of(tokens)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step, lambda: 3 * _bytes(model)  # weights and two moments


def autocast(args: argparse.Namespace) -> torch.autocast:
    """Mixed precision as asked for."""
    return torch.autocast(args.device.split(":")[0], dtype=torch.bfloat16, enabled=args.precision == "bfloat16")


def _bytes(model: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


METHOD_BUILDERS: dict[str, Callable] = {
    "HF": lambda args: hugging_face(args, compiled=False),
    "HF compiled": lambda args: hugging_face(args, compiled=True),
    "ours": ours,
    "ours compiled": lambda args: ours(args, compiled=True),
    "teacher forward": teacher_forward,
    "ours, teacher online": lambda args: ours(args, teacher="online"),
    "ours, teacher cached": lambda args: ours(args, teacher="cached"),
}


def print_table(seconds: dict[str, list[float]], memory: dict[str, int], args: argparse.Namespace) -> None:
    """One line a method, then the ratios that matter."""
    tokens = args.batch * args.context
    best = {name: min(times) for name, times in seconds.items()}
    median = {name: statistics.median(times) for name, times in seconds.items()}
    peers = [name for name in PEER if name in best]
    table = Table("method", "s a step, best", "median", "tokens/s", " x best HF", "MiB", " x least HF")
    for name in seconds:
        compared = peers and name != "teacher forward"
        table.add_row(
            name,
            f"{best[name]:.3f}",
            f"{median[name]:.3f}",
            f"{tokens / best[name]:.0f}",
            f"{min(best[peer] for peer in peers) / best[name]:.2f}" if compared else "",
            f"{memory[name] / 2**20:.0f}",
            f"{memory[name] / min(memory[peer] for peer in peers):.2f}" if compared else "",
        )
    Console(width=120).print(table)
    for name, figures in (("best", best), ("median", median)):
        if {"ours", "teacher forward", "ours, teacher online"} <= set(figures):
            apart = figures["ours"] + figures["teacher forward"]
            ratio = figures["ours, teacher online"] / apart
            print(f"online teacher, {name}: {ratio:.3f} of student step + teacher forward")
        if {"ours", "ours, teacher cached"} <= set(figures):
            ratio = figures["ours, teacher cached"] / figures["ours"]
            print(f"cached teacher, {name}: {ratio:.3f} of the step without")


if __name__ == "__main__":
    main()
