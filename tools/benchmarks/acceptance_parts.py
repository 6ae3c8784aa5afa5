"""Parts of ``gpu_acceptance.py``: each measures something and writes its figures down."""

import contextlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from delvm_mm.engine.distillation.online import OnlineTeacher
from delvm_mm.engine.flops import measure_peak_flops, training_flops_per_token
from delvm_mm.hardware import has_bfloat16
from delvm_mm.models import VQGAN, CachedTeacherTerm, DeLVM, ExtraLoss, LogitsKLLoss
from delvm_mm.models.backbones.llama import resolve_arch
from machine import machine

ROOT = Path(__file__).parents[2]
CODES = 8192
TINY = dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=128)
TINY_TOKENIZER = dict(
    hidden_channels=8, channel_mult=(1, 1, 1, 1, 1), num_res_blocks=1, z_channels=8, num_embeddings=64,
    quantized_embed_dim=8, norm_num_groups=4,
)  # fmt: skip
PUBLISHED_SECONDS = 2.1  # of one answer of the 300M, in the paper
PACKAGES = (
    "torch", "torchvision", "numpy", "mmengine", "onedl-mmengine", "mmcv-lite", "onedl-mmcv", "mmpretrain",
    "onedl-mmpretrain", "mmsegmentation", "onedl-mmsegmentation", "mmpose", "transformers", "diffusers", "triton",
    "delvm_mm",
)  # fmt: skip


class LeftOutError(Exception):
    """A part cannot run here, for a reason that is no failure."""


class Figures:
    """What a part has measured, and what went wrong without ending it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.errors: list[str] = []

    def add(self, name: str, value: Any, unit: str = "", goal: str = "", met: bool | None = None) -> None:
        """Write a figure down."""
        value = float(f"{value:.4g}") if isinstance(value, float) else value
        self.rows.append(dict(name=name, value=value, unit=unit, goal=goal, met="" if met is None else met))

    @contextlib.contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Go on after an error; it is reported, and the part counts as failed."""
        try:
            yield
        except Exception:
            self.errors.append(f"{name}:\n{traceback.format_exc()}")
            torch.cuda.empty_cache()


def about_the_machine(settings: Any, figures: Figures, left: float) -> None:
    """Device, driver, versions."""
    figures.add("machine", machine(settings.device))
    if not settings.cpu:
        figures.add("CUDA", torch.version.cuda)
        figures.add("memory", torch.cuda.get_device_properties(0).total_memory / 2**30, "GiB")
        figures.add("capability", ".".join(map(str, torch.cuda.get_device_capability())))
        figures.add("devices", torch.cuda.device_count())
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
            figures.add("driver", found.stdout.split("\n")[0])
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            figures.add(name, importlib.metadata.version(name))


def speed(settings: Any, figures: Figures, left: float) -> None:
    """Copy bandwidth and the rate of matrix products."""
    figures.add("copy", bandwidth(settings) / 1e9, "GB/s")
    for dtype in (getattr(torch, precision) for precision in precisions(settings)):
        peak = measure_peak_flops(dtype, settings.device, 0.1 if settings.cpu else 1.0)
        figures.add(f"products of {peak.size} x {peak.size}, {str(dtype)[6:]}", peak.flops / 1e12, "TFLOP/s")


def tests(settings: Any, figures: Figures, left: float) -> None:
    """The tests that need a GPU; on a CPU one of those that run on both."""
    folder = ROOT / "tests" / "test_devices"
    if not folder.is_dir():
        raise LeftOutError("the tests are not here: run the script from a checkout")
    try:
        importlib.metadata.version("pytest")
    except importlib.metadata.PackageNotFoundError:
        raise LeftOutError("pytest is not installed") from None
    chosen = ["-m", "not gpu", "-k", "test_losses_in_chunks"] if settings.cpu else ["-m", "gpu"]
    with tempfile.TemporaryDirectory() as place:
        xml = Path(place) / "results.xml"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(folder), *chosen, f"--junitxml={xml}"]
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        limit = settings.seconds_of("tests") - 10  # ends it with its children before this process is ended
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit)
        if not xml.exists():
            raise RuntimeError(f"pytest ended with exit code {done.returncode}:\n{done.stdout}\n{done.stderr}")
        cases = list(ElementTree.parse(xml).getroot().iter("testcase"))
    bad = [(case, kind) for case in cases for kind in case if kind.tag in ("failure", "error")]
    skipped = [case for case in cases if case.find("skipped") is not None]
    figures.add("passed", len(cases) - len(bad) - len(skipped))
    figures.add("failed", len(bad), goal="0", met=not bad)
    figures.add("skipped", len(skipped))
    figures.errors += [f"{case.get('name')}:\n{(kind.text or '')[-6000:]}" for case, kind in bad]
    if not cases:
        raise RuntimeError(f"no test ran:\n{done.stdout}")


def generation(settings: Any, figures: Figures, left: float) -> None:
    """One answer, and many behind one prompt, of the 300M."""
    toy = settings.cpu
    image, queries, rounds = (16, 3, 1) if toy else (256, 64, 3)
    arch, dtype = (TINY, torch.float32) if toy else ("300m", torch.bfloat16)
    prompt = 6 * image
    ours = delvm(arch, settings.device, context=prompt + 2 * image).eval().to(dtype)
    tokens = torch.randint(CODES, (1, prompt + image), device=settings.device).repeat(queries, 1)
    tokens[:, prompt:] = torch.randint(CODES, (queries, image), device=settings.device)

    def shared(**options: Any) -> Tensor:
        ours._engine.prompts.shrink(0)
        return ours.generate(tokens, image, prompt_length=prompt, **options)

    compiled = [] if toy else ["compiled and captured"]
    best: dict[str, float] = {}
    for name in ("plain", *compiled):
        options = dict(compile=name != "plain")
        with figures.attempt(f"one query, {name}"):
            best[name] = best_of(lambda options=options: ours.generate(tokens[:1], image, **options), settings, rounds)
            figures.add(f"one query, {name}", best[name], "s")
        with figures.attempt(f"{queries} queries, {name}"):
            rate = queries / best_of(lambda options=options: shared(**options), settings, rounds)
            figures.add(
                f"{queries} queries behind one prompt, {name}", rate, "images/s", "50", None if toy else rate >= 50
            )
    with figures.attempt("Hugging Face"):
        theirs = hugging_face(settings, figures, tokens[:1], image, arch, dtype, rounds)
        if theirs and best:
            ratio = theirs["default"] / min(best.values())
            figures.add("one query, times Hugging Face's default", ratio, "", "10", None if toy else ratio >= 10)
    shape = resolve_arch(arch)
    width, layers = shape["embed_dims"], shape["num_layers"]
    weights = layers * (4 * width**2 + 3 * width * shape["feedforward_channels"]) + CODES * width
    cache = 2 * layers * width * (prompt + image + image // 2)
    bound = image * dtype.itemsize * (weights + cache) / bandwidth(settings)
    figures.add("reading weights and cache once a token", bound, "s")
    if best:
        ratio = min(best.values()) / bound
        figures.add("one query, times that", ratio, "", "2.5", None if toy else ratio <= 2.5)
    figures.add("one query, published (another machine)", PUBLISHED_SECONDS, "s")


def hugging_face(
    settings: Any, figures: Figures, row: Tensor, answer: int, arch: Any, dtype: torch.dtype, rounds: int
) -> dict[str, float]:
    """Seconds of an answer with ``LlamaForCausalLM``, where transformers is installed."""
    try:
        from transformers import CompileConfig, LlamaForCausalLM

        from peer import llama_config
    except ImportError:
        figures.add("Hugging Face", "transformers is not installed")
        return {}
    model = LlamaForCausalLM(llama_config(resolve_arch(arch), CODES, 2048)).eval().to(settings.device, dtype)
    length = dict(min_new_tokens=answer, max_new_tokens=answer, do_sample=False)
    ways: dict[str, dict] = {"default": {}}
    if not settings.cpu:
        ways["compiled"] = dict(cache_implementation="static", compile_config=CompileConfig())
    seconds, mask = {}, torch.ones_like(row)
    for name, options in ways.items():
        with figures.attempt(f"Hugging Face, {name}"):
            seconds[name] = best_of(
                lambda options=options: model.generate(row, attention_mask=mask, **length, **options), settings, rounds
            )
            figures.add(f"one query, Hugging Face, {name}", seconds[name], "s")
    return seconds


class CachedOnDevice(ExtraLoss):
    """A teacher cache whose top codes are on the device already: what reading a disk takes is another matter."""

    def __init__(self, batch: int, context: int, device: str) -> None:
        rows = batch * (context - 1)
        codes = torch.arange(32, device=device).expand(rows, -1)
        self.term = CachedTeacherTerm(
            LogitsKLLoss(), codes, torch.full((rows, 32), -4.0, device=device), torch.full((rows,), -1.0, device=device)
        )

    def logit_terms(self) -> list[CachedTeacherTerm]:
        """The one term."""
        return [self.term]


def steps(settings: Any, figures: Figures, left: float) -> None:
    """Training steps of the 300M at 2048 tokens: alone, and with a teacher online and cached."""
    toy = settings.cpu
    arch, teacher, context, batch = (TINY, TINY, 64, 2) if toy else ("300m", "1b", 2048, 16)
    while True:
        try:
            alone = step_seconds(settings, arch, context, batch)
            break
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
            torch.cuda.empty_cache()
            batch //= 2
    tokens = batch * context
    peak = measure_peak_flops(getattr(torch, precisions(settings)[-1]), settings.device, 0.1 if toy else 1.0).flops
    flops = training_flops_per_token(arch, context, CODES)
    used = flops * tokens / alone / peak
    figures.add("sentences a batch", batch)
    figures.add("alone", tokens / alone, "tokens/s")
    figures.add("alone, share of the measured matrix peak", 100 * used, "%", "45", None if toy else used >= 0.45)
    if not toy:
        with figures.attempt("compiled layers"):
            compiled = step_seconds(settings, arch, context, batch, compile=True)
            figures.add("compiled layers", tokens / compiled, "tokens/s")
    ratio = training_flops_per_token(arch, context, CODES, teacher=teacher) / flops
    for overlap in (False, True):
        name = "teacher online" + ", beside the student" * overlap
        with figures.attempt(name):
            extra = dict(online=teacher, overlap=overlap)
            found = step_seconds(settings, arch, context, batch, **extra) / alone
            goal = 1.1 * ratio
            figures.add(f"{name}, times alone", found, "", f"{goal:.2f}", None if toy else found <= goal)
    with figures.attempt("teacher cached"):
        found = step_seconds(settings, arch, context, batch, cached=True) / alone
        figures.add("teacher cached, times alone", found, "", "1.1", None if toy else found <= 1.1)


def step_seconds(
    settings: Any, arch: Any, context: int, batch: int, online: Any = None, overlap: bool = False,
    cached: bool = False, compile: bool = False,
) -> float:  # fmt: skip
    """Seconds of forward, backward, clipping and fused AdamW, in bfloat16 by autocast."""
    device = settings.device
    model = delvm(arch, device, context).train()
    if compile:
        for layer in model.backbone.layers:
            layer.compile()
    if online is not None:
        teacher = delvm(online, device, context).requires_grad_(False).eval().bfloat16()
        model.extra_losses.append(OnlineTeacher(teacher, LogitsKLLoss(), overlap=overlap))
    if cached:
        model.extra_losses.append(CachedOnDevice(batch, context, device))
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    tokens = torch.randint(CODES, (batch, context), device=device)

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled="bfloat16" in precisions(settings)):
            losses = model.loss(tokens)
        model.parse_losses(losses)[0].backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return best_of(step, settings, 1 if settings.cpu else 10)


def vqgan(settings: Any, figures: Figures, left: float) -> None:
    """Images to tokens and back."""
    import benchmark_vqgan as benchmark

    toy = settings.cpu
    batch, size, rounds = (2, 32, 1) if toy else (32, 256, 3)
    images = torch.rand(batch, 3, size, size, device=settings.device)
    torch.manual_seed(0)
    ours = VQGAN(**(benchmark.QUICK if toy else {})).eval().requires_grad_(False).to(settings.device)
    sides = [("VQGAN", ours, benchmark.run_ours)]
    try:
        _, theirs = benchmark.build(None, toy, settings.device)
        sides.append(("diffusers", theirs, benchmark.run_theirs))
    except ImportError:
        figures.add("diffusers", "is not installed")
    best: dict[str, float] = {}
    for side, model, trip in sides:
        for precision in precisions(settings):
            compiled = side == "VQGAN" and not toy
            for way, trip_once in benchmark.variants(model, trip, precision, settings.device, compiled).items():
                name = f"{side}{way}, {precision}"
                with figures.attempt(name):
                    seconds = best_of(lambda run=trip_once: run(images), settings, rounds)
                    figures.add(name, batch / seconds, "images/s")
                    for key in (side, name):
                        best[key] = min(best.get(key, seconds), seconds)
    eager = best.get("diffusers, float32")
    if eager and "VQGAN" in best:
        for goal, name in ((1.0, "VQGAN, float32"), (2.0, "VQGAN")):
            ratio = eager / best[name]
            label = "as it is" if name != "VQGAN" else "best options"
            figures.add(f"{label}, times diffusers in float32", ratio, "", f"{goal:g}", None if toy else ratio >= goal)


def tokenizing(settings: Any, figures: Figures, left: float) -> None:
    """A folder of images to a token store, against the plain loop."""
    import benchmark_tokenize as benchmark
    from delvm_mm.datasets import ImageFolderDataset
    from delvm_mm.precompute import tokenize_clips

    init_default_scope("delvm_mm")
    toy = settings.cpu
    count = 2 if toy else 512
    torch.manual_seed(0)
    plain = VQGAN(**(TINY_TOKENIZER if toy else {})).eval().requires_grad_(False).to(settings.device)
    tokenizer = VQGAN(**plain.config)
    tokenizer.load_state_dict(plain.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        (files,) = benchmark.make_images(Path(folder), count, 1)
        benchmark.run_plain(plain, files[:1], Path(folder) / "warm-up.json", settings.device)
        start = time.perf_counter()
        benchmark.run_plain(plain, files, Path(folder) / "plain.json", settings.device)
        loop = time.perf_counter() - start
        figures.add("plain loop", count / loop, "images/s")
        for precision in precisions(settings):
            start = time.perf_counter()
            tokenize_clips(
                ImageFolderDataset(files[0].parent, pipeline=benchmark.PIPELINE),
                tokenizer.eval().requires_grad_(False),
                Path(folder) / precision,
                batch_clips=2 if toy else 128,
                num_workers=0 if toy else min(8, os.cpu_count() or 1),
                device=settings.device,
                precision=precision,
            )
            seconds = time.perf_counter() - start
            figures.add(f"tokenize_clips, {precision}", count / seconds, "images/s")
        ratio = loop / seconds
        figures.add(f"tokenize_clips in {precision}, times the plain loop", ratio, "", "5", None if toy else ratio >= 5)


def training(settings: Any, figures: Figures, left: float) -> None:
    """The 80M with a teacher on built-in scenes, for the time that is left."""
    import acceptance_training

    acceptance_training.train(settings, figures, left)


PARTS: dict[str, Callable[[Any, Figures, float], None]] = dict(
    machine=about_the_machine, speed=speed, tests=tests, generation=generation, steps=steps, vqgan=vqgan,
    tokenizing=tokenizing, training=training,
)  # fmt: skip


def precisions(settings: Any) -> tuple[str, ...]:
    """What the device multiplies in; some CPUs only emulate bfloat16, at a hundredth of the speed."""
    return ("float32", "bfloat16") if has_bfloat16(settings.device) else ("float32",)


def delvm(arch: Any, device: str, context: int) -> DeLVM:
    """A DeLVM with random weights."""
    torch.manual_seed(0)
    return DeLVM(
        None,
        dict(type="delvm_mm.LLaMA", arch=arch, max_positions=context),
        dict(type="delvm_mm.TokenEmbedding", num_embeddings=CODES),
        dict(type="delvm_mm.NextTokenHead", num_embeddings=CODES),
    ).to(device)


def best_of(run: Callable[[], Any], settings: Any, rounds: int) -> float:
    """Seconds of the fastest run, after one that does not count."""
    times = []
    for _ in range(rounds + 1):
        synchronize(settings)
        start = time.perf_counter()
        run()
        synchronize(settings)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def bandwidth(settings: Any) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.zeros(2**22 if settings.cpu else 2**30, dtype=torch.uint8, device=settings.device)
    target = torch.empty_like(source)
    return 2 * source.numel() / best_of(lambda: target.copy_(source), settings, 10)


def synchronize(settings: Any) -> None:
    """Wait for the device."""
    if not settings.cpu:
        torch.cuda.synchronize()
