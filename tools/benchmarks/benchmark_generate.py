"""Answering prompts: Hugging Face, llama.cpp and ``DeLVM.generate``, the same weights, in turns.

A prompt is pairs of images and a query, the answer one image, greedy. Times are those of one image: until its first
token ("prefill"), a token after that ("decode"), and all; every method has run once before. Hugging Face answers one
query at a time. Memory is the most that this first call took beyond the weights, our packed copy of them included;
without a GPU it is the growth of resident memory, of llama.cpp all of its process beyond the file.

    python tools/benchmarks/benchmark_generate.py                    # LLaMA-80M; about 20 minutes on two CPU cores
    python tools/benchmarks/benchmark_generate.py --quick            # a tiny model, seconds
    python tools/benchmarks/benchmark_generate.py --peer hf llamacpp --llamacpp-python ENVIRONMENT/bin/python
    python tools/benchmarks/benchmark_generate.py --device cuda --arch 300m --queries 64 --precisions bfloat16
"""

import argparse
import contextlib
import gc
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from delvm_mm.models.gguf_export import save_as_gguf
from llamacpp import LlamaCpp, llamacpp
from machine import machine, resident
from peer import llama_config

TINY = dict(embed_dims=128, num_layers=2, num_heads=4)
CODES = 8192
LABELS = {"hf": "HF", "llamacpp": "llama.cpp"}
# Weights and cache of llama.cpp beside ours in a precision, what is equally exact first.
LLAMACPP_TYPES = {"float32": [("f32", "f32"), ("f32", "f16")], "bfloat16": [("f16", "f16"), ("bf16", "f16")]}
LLAMACPP_INSTALL = "python -m venv ENVIRONMENT && ENVIRONMENT/bin/pip install llama-cpp-python numpy"
PUBLISHED_SECONDS = {"300m": 2.1, "1b": 6.2}  # of one answer, in the paper


@dataclass
class Run:
    """One call of a method: tokens B x N, seconds until the first and until the last, and bytes at its peak."""

    written: Tensor
    prefill: float
    seconds: float
    memory: int

    @property
    def prefill_of_one(self) -> float:
        """Seconds of one image."""
        return self.prefill / len(self.written)

    @property
    def seconds_of_one(self) -> float:
        """Seconds of one image."""
        return self.seconds / len(self.written)

    @property
    def token_ms(self) -> float:
        """Milliseconds of a token behind the first."""
        return (self.seconds - self.prefill) / max(1, self.written[:, 1:].numel()) * 1000


# Calls what it is given when the first token is there, and returns the tokens; or what another process says of all.
Method = Callable[[Callable[[], None]], Tensor | Run]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="80m", choices=["80m", "300m", "1b", "tiny"])
    parser.add_argument("--pairs", type=int, default=3, help="of images in the prompt")
    parser.add_argument("--image-tokens", type=int, default=256)
    parser.add_argument("--queries", type=int, default=16, help="that share the prompt in one batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--peer", nargs="+", default=["hf"], choices=["hf", "llamacpp"])
    parser.add_argument("--llamacpp-python", help=f"an interpreter that has it: {LLAMACPP_INSTALL}")
    parser.add_argument("--device", default=str(choose_device()))
    parser.add_argument("--only", nargs="+", help="methods whose names have one of these words, such as batch")
    parser.add_argument("--no-compile", action="store_true", help="leave out what is compiled; compiling takes minutes")
    parser.add_argument("--quick", action="store_true", help="a tiny model, short prompts, one round")
    args = parser.parse_args()
    if args.quick:
        args.arch, args.image_tokens, args.queries, args.rounds = "tiny", 32, 4, 1
    if "llamacpp" in args.peer:
        check_llamacpp(parser, args)

    print(machine(args.device), f"transformers {transformers.__version__}", sep=", ")
    prompt_length, answer = 2 * args.pairs * args.image_tokens, args.image_tokens
    torch.manual_seed(0)
    prompt = torch.randint(CODES, (1, prompt_length), device=args.device)
    queries = torch.randint(CODES, (args.queries, answer), device=args.device)
    tokens = torch.cat((prompt.expand(args.queries, -1), queries), dim=1)
    methods: dict[str, Method] = {}
    models = []
    with contextlib.ExitStack() as opened:
        for name in args.precisions:
            theirs, ours = build(args.arch, getattr(torch, name), args.device, prompt_length + 2 * answer)
            models.append(ours)
            if "llamacpp" in args.peer:
                methods |= opened.enter_context(llamacpp_methods(name, ours, tokens, prompt_length, answer, args))
            methods |= methods_of(name, theirs, ours, tokens, prompt_length, answer, args)
        methods = {name: method for name, method in methods.items() if is_wanted(name, args)}
        if not methods:
            parser.error(f"--only {' '.join(args.only)}: no method has such a name")
        first, runs = run_all(methods, models, args)
    print_table(first, runs, args)
    if args.device.startswith("cuda"):
        print_bound(methods, args, prompt_length, answer)


def is_wanted(name: str, args: argparse.Namespace) -> bool:
    """Whether a method is among those of ``--only``."""
    return args.only is None or any(word in name for word in args.only)


def run_all(
    methods: dict[str, Method], models: list[DeLVM], args: argparse.Namespace
) -> tuple[dict[str, Run], dict[str, list[Run]]]:
    """Each method's first call, and those of all rounds."""
    # Progress goes to stderr: on a busy machine a round takes long.
    log = Console(stderr=True)
    first: dict[str, Run] = {}
    runs: dict[str, list[Run]] = {name: [] for name in methods}
    for name, method in methods.items():
        for model in models:
            model.train().eval()  # gives packed weights and prompts back
        first[name] = measure(method, args.device)
        log.print(f"{name}: {first[name].seconds_of_one:.2f} s (first run)")
    for _ in range(args.rounds):
        for name, method in methods.items():
            runs[name].append(measure(method, args.device))
            log.print(f"{name}: {runs[name][-1].seconds_of_one:.2f} s, {runs[name][-1].token_ms:.2f} ms a token")
    return first, runs


def check_llamacpp(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with what is missing for a comparison with llama.cpp."""
    if args.llamacpp_python is None:
        parser.error(f"--peer llamacpp needs --llamacpp-python, an interpreter that has it: {LLAMACPP_INSTALL}")
    if args.device != "cpu":
        parser.error(f"--peer llamacpp is measured on a CPU, the device is {args.device}: add --device cpu")
    if unknown := set(args.precisions) - set(LLAMACPP_TYPES):
        parser.error(f"--peer llamacpp knows {', '.join(LLAMACPP_TYPES)}, --precisions has {', '.join(unknown)}")
    if shutil.which(args.llamacpp_python) is None:
        parser.error(f"--llamacpp-python {args.llamacpp_python} is no interpreter: {LLAMACPP_INSTALL}")
    tried = subprocess.run([args.llamacpp_python, "-c", "import llama_cpp, numpy"], capture_output=True, text=True)
    if tried.returncode:
        cause = tried.stderr.strip().splitlines()[-1]
        parser.error(f"--llamacpp-python {args.llamacpp_python} has no llama.cpp ({cause}): {LLAMACPP_INSTALL}")


@contextlib.contextmanager
def llamacpp_methods(
    precision: str, ours: DeLVM, tokens: Tensor, prompt_length: int, answer: int, args: argparse.Namespace
) -> Iterator[dict[str, Method]]:
    """llama.cpp with the same weights, in processes that end with the context."""
    methods = {}
    batch = args.queries * 2 * answer + prompt_length
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        for weights, cache in LLAMACPP_TYPES[precision]:
            file = Path(folder) / f"{weights}.gguf"
            if not file.exists():
                save_as_gguf(ours, file, weights)
            for rows, context in ((1, prompt_length + 2 * answer), (args.queries, batch)):
                name = f"{precision} llama.cpp {weights}, {cache} cache, {'batch' if context == batch else 'one query'}"
                if not is_wanted(name, args):
                    continue
                threads = torch.get_num_threads()
                peer = running.enter_context(llamacpp(args.llamacpp_python, file, cache, context, threads, rows))
                print(f"{name}: llama-cpp-python {peer.version}")
                request = dict(tokens=tokens[:rows].tolist(), prompt_length=prompt_length, num_tokens=answer)
                methods[name] = llamacpp_method(peer, request, file.stat().st_size)
        yield methods


def llamacpp_method(peer: LlamaCpp, request: dict, file_size: int) -> Method:
    """Ask a process for an answer, which says itself how long it took."""

    def method(_: Callable[[], None]) -> Run:
        said = peer.answer(**request)
        return Run(torch.tensor(said["tokens"]), said["prefill"], said["seconds"], max(0, said["memory"] - file_size))

    return method


class FirstToken:
    """A streamer of Hugging Face that says when the first token is there; it is given the prompt before."""

    def __init__(self, mark: Callable[[], None]) -> None:
        self._mark, self._given = mark, 0

    def put(self, _: Tensor) -> None:
        """The prompt, or a token."""
        self._given += 1
        if self._given == 2:
            self._mark()

    def end(self) -> None:
        """Nothing more will come."""


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
) -> dict[str, Method]:
    """What is timed in one precision of Hugging Face's model and ours, by name."""

    def hugging_face(mark: Callable[[], None], **options: object) -> Tensor:
        row = tokens[:1]
        length = dict(min_new_tokens=answer, max_new_tokens=answer)
        options |= dict(attention_mask=torch.ones_like(row), do_sample=False, streamer=FirstToken(mark))
        return theirs.generate(row, **length, **options)[:, row.shape[1] :]

    def single(mark: Callable[[], None], **options: object) -> Tensor:
        return ours.generate(tokens[:1], answer, on_token=lambda index, _: index or mark(), **options)

    def shared(mark: Callable[[], None], cold: bool = True, **options: object) -> Tensor:
        if cold:
            ours._engine.prompts.shrink(0)
        options |= dict(prompt_length=prompt_length, on_token=lambda index, _: index or mark())
        return ours.generate(tokens, answer, **options)

    compiled = CompileConfig()
    compiled._compile_all_devices = True
    static = dict(cache_implementation="static")
    methods = {
        "HF default": hugging_face,
        "HF static": lambda mark: hugging_face(mark, **static, disable_compile=True),
        "HF compiled": lambda mark: hugging_face(mark, **static, compile_config=compiled),
        "ours, one query": lambda mark: single(mark, draft="none"),
        "ours, one query, drafts": single,
        "ours compiled, one query": lambda mark: single(mark, compile=True),
        "ours, batch": shared,
        "ours, batch, prompt known": lambda mark: shared(mark, cold=False),
        "ours compiled, batch": lambda mark: shared(mark, compile=True),
    }
    on_cpu = args.device == "cpu"
    left_out = {name for name in methods if "compiled" in name and (args.no_compile or (on_cpu and "ours" in name))}
    left_out |= {name for name in methods if "HF" in name and "hf" not in args.peer}
    return {f"{precision} {name}": method for name, method in methods.items() if name not in left_out}


def measure(method: Method, device: str) -> Run:
    """Call a method."""
    gc.collect()
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak of resident memory
        before = resident("VmRSS")
    start, first = time.perf_counter(), []

    def mark() -> None:
        if on_gpu:
            torch.cuda.synchronize()
        first.append(time.perf_counter() - start)

    written = method(mark)
    if isinstance(written, Run):
        return written
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if on_gpu else resident("VmHWM")
    # A batch that was split has several first tokens; what lies between is not prefill alone.
    return Run(written.cpu(), first[0], seconds, max(0, peak - before))


def print_table(first: dict[str, Run], runs: dict[str, list[Run]], args: argparse.Namespace) -> None:
    """One line a method; the ratios say how many times as fast as a peer a method is."""
    best = {name: min(run.seconds_of_one for run in of_method) for name, of_method in runs.items()}
    reference = next((name for name in first if "HF default" in name), next(iter(first)))
    table = Table("method", "prefill s", "median", "ms a token", "median", "s an image", "median")
    table.columns[0].no_wrap = True
    ratios = [f"x {LABELS[peer]}" for peer in args.peer]
    for title in (*ratios, "x first", "same tokens", "MiB"):
        table.add_column(title)
    for name, of_method in runs.items():
        cells = []
        for digits, what in ((2, "prefill_of_one"), (2, "token_ms"), (3, "seconds_of_one")):
            values = [getattr(run, what) for run in of_method]
            cells += [f"{min(values):.{digits}f}", f"{statistics.median(values):.{digits}f}"]
        for peer in args.peer:
            cells.append(f"{rival_of(name, LABELS[peer], best) / best[name]:.2f}")
        same = (first[name].written[0] == first[reference].written[0]).float().mean()
        table.add_row(
            name, *cells, f"{best[reference] / best[name]:.2f}", f"{same:.0%}", f"{first[name].memory / 2**20:.0f}"
        )
    if args.arch in PUBLISHED_SECONDS:
        table.add_row("published", *[""] * 4, f"{PUBLISHED_SECONDS[args.arch]:.3f}")
    Console(width=150).print(table)
    print(
        f"Best and median of {args.rounds}, all of one image; batch: {args.queries} queries behind one prompt; x: "
        f"times as fast, whole images, as the best of a peer in the same precision and as {reference}; same tokens: "
        "share of the first query's equal to its"
    )
    print("With random weights an answer repeats itself, which drafts guess: their row says nothing of images")


def rival_of(name: str, peer: str, best: dict[str, float]) -> float:
    """Seconds of a peer's best method of the same precision: of as many queries, where it has both."""
    rivals = [other for other in best if other.startswith(f"{name.split()[0]} {peer}")]
    alike = [other for other in rivals if ("batch" in other) == ("batch" in name)]
    return min(best[other] for other in alike or rivals)


def print_bound(methods: dict, args: argparse.Namespace, prompt_length: int, answer: int) -> None:
    """How long reading the weights and the cache once a token would take, at the speed of a copy."""
    source = torch.empty(2**30, dtype=torch.uint8, device=args.device)
    target = torch.empty_like(source)

    def copy(mark: Callable[[], None]) -> Tensor:
        mark()
        return target.copy_(source)[:1]

    seconds = min(measure(copy, args.device).seconds for _ in range(10))
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
