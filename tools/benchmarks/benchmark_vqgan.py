"""Images to tokens and back: ``VQGAN`` against ``diffusers.VQModel`` with the same weights, in turns, in one run.

Each side is tried as it is and with the channels last, and for bfloat16 under autocast and with weights of that type,
all under ``torch.inference_mode``; what counts is the best of ours over the best of theirs.

    python tools/benchmarks/benchmark_vqgan.py              # the published shape at 256 px: some minutes on two cores
    python tools/benchmarks/benchmark_vqgan.py --quick      # a small one, to see that it runs
    python tools/benchmarks/benchmark_vqgan.py --device cuda --compile
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from delvm_mm.hardware import choose_device
from delvm_mm.models import VQGAN
from delvm_mm.models.tokenizers.conversion import save_as_diffusers
from delvm_mm.progress import tracked
from machine import machine

QUICK = dict(hidden_channels=32, channel_mult=(1, 2, 2), z_channels=16, num_embeddings=256, quantized_embed_dim=16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small shape, 64 px")
    parser.add_argument(
        "--tokenizer", help="folder of a tokenizer; the published shape with random weights without one"
    )
    parser.add_argument("--batch-size", type=int, help="2 on a CPU, 32 on a GPU by default")
    parser.add_argument("--size", type=int, help="side of the images, 256 by default")
    parser.add_argument("--rounds", type=int, default=5, help="turns, of which the fastest counts")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--device", default=str(choose_device()))
    parser.add_argument("--compile", action="store_true", help="also ours compiled with the channels last")
    args = parser.parse_args()
    size = args.size or (64 if args.quick else 256)
    batch = args.batch_size or (32 if args.device.startswith("cuda") else 2)

    ours, theirs = build(args.tokenizer, args.quick, args.device)
    images = torch.rand(batch, 3, size, size, device=args.device)
    agreement = compare(ours, theirs, images)
    sides = {
        precision: {
            f"{name}{option}": run
            for name, model, trip in (("VQGAN", ours, run_ours), ("diffusers", theirs, run_theirs))
            for option, run in variants(model, trip, precision, args.device, args.compile and name == "VQGAN").items()
        }
        for precision in args.precisions
    }
    seconds = {(precision, name): [] for precision in args.precisions for name in sides[precision]}
    for turn in tracked(range(args.rounds + 1), "measuring", "rounds"):  # the first warms up
        for precision, name in list(seconds):
            start = now(args.device)
            try:
                sides[precision][name](images)
            except (RuntimeError, NotImplementedError) as error:
                print(f"{name} in {precision} cannot run: {str(error).splitlines()[0]}")
                del seconds[precision, name], sides[precision][name]
                continue
            if turn:
                seconds[precision, name].append(now(args.device) - start)

    table = Table("", "precision", "images/s, best", "median", "times the best diffusers")
    for precision in args.precisions:
        best = min(min(seconds[precision, name]) for name in sides[precision] if name.startswith("diffusers"))
        for name in sides[precision]:
            taken = sorted(seconds[precision, name])
            rates = (batch / second for second in (taken[0], taken[len(taken) // 2]))
            table.add_row(name, precision, *(f"{rate:.2f}" for rate in rates), f"{best / taken[0]:.2f}")
        table.add_section()
    console = Console()
    console.print(table)
    for precision in args.precisions:
        fastest = {
            side: min(min(seconds[precision, name]) for name in sides[precision] if name.startswith(side))
            for side in ("VQGAN", "diffusers")
        }
        console.print(f"{precision}: ratio {fastest['diffusers'] / fastest['VQGAN']:.2f}", style="bold")
    console.print(
        f"encode + decode, {batch} x {size} x {size}, {args.rounds} rounds; {agreement}; {machine(args.device)}"
    )


def build(folder: str | None, quick: bool, device: str) -> tuple[VQGAN, nn.Module]:
    """Ours and theirs, with the same weights."""
    from diffusers import VQModel

    torch.manual_seed(0)
    ours = VQGAN.from_pretrained(folder) if folder else VQGAN(**(QUICK if quick else {})).eval()
    if not folder:
        nn.init.normal_(ours.codebook)
    with tempfile.TemporaryDirectory() as place:
        save_as_diffusers(ours, place)
        theirs = VQModel.from_pretrained(place)
    # Its decode then quantizes vectors; looking up tokens is a switch of the config that needs another call.
    return ours.to(device).requires_grad_(False), theirs.eval().to(device).requires_grad_(False)


def run_ours(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)


def run_theirs(model: nn.Module, images: Tensor) -> Tensor:
    """Images to tokens and back with diffusers' calls, clamped as ours are."""
    return model.decode(model.encode(images).latents).sample.clamp(0, 1)


def variants(
    model: nn.Module, trip: Callable[[nn.Module, Tensor], Tensor], precision: str, device: str, compiled: bool
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Ways to run a model in a precision, by name."""
    kind = torch.device(device).type
    ways = {}
    for layout, memory_format in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
        # A module's memory format and type are those of its weights, so each way has its own.
        laid_out = copy.deepcopy(model).to(memory_format=memory_format)

        def run(images: Tensor, model: nn.Module = laid_out, form: torch.memory_format = memory_format) -> Tensor:
            with torch.inference_mode():
                return trip(model, images.to(memory_format=form))

        if precision == "float32":
            ways[layout] = run
        else:

            def in_autocast(images: Tensor, run: Callable[[Tensor], Tensor] = run) -> Tensor:
                with torch.autocast(kind, dtype=torch.bfloat16):
                    return run(images)

            low = copy.deepcopy(laid_out).bfloat16()

            def in_low(images: Tensor, run: Callable = run, model: nn.Module = low) -> Tensor:
                return run(images.bfloat16(), model)

            ways |= {f"{layout}, autocast": in_autocast, f"{layout}, weights": in_low}
    if compiled:
        ways |= {f"{name}, compiled": torch.compile(run) for name, run in list(ways.items()) if "last" in name}
    return ways


@torch.inference_mode()
def compare(ours: VQGAN, theirs: nn.Module, images: Tensor) -> str:
    """That both do the same in float32."""
    if ours.symmetric_pixels:
        raise SystemExit("error: a tokenizer of images in [-1, 1] has no counterpart that takes [0, 1]; give another")
    tokens = theirs.quantize(theirs.encode(images).latents)[2][2]
    same = (ours.encode(images).flatten() == tokens.flatten()).float().mean()
    far = (ours(images) - run_theirs(theirs, images)).abs().max()
    return f"same tokens {same:.2%}, images differ by {far:.1e} at most in float32"


def now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
