"""Images a second of ``VisionLLaMA``-80M and mmpretrain's ``VisionTransformer`` base/16, training and inference.

Both are classifiers of 1000 classes on the same images, and take turns in one run; a step of training is forward,
backward and AdamW. What counts is the ratio of multiply-adds a second: images a second times those of one image,
counted by MMEngine's analysis with both products of attention.

    python tools/benchmarks/benchmark_vision.py                     # about 15 minutes on two CPU cores
    python tools/benchmarks/benchmark_vision.py --quick             # tiny models, seconds
    python tools/benchmarks/benchmark_vision.py --device cuda --batch-size 128 --precisions bfloat16
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from delvm_mm.engine.complexity import count_complexity
from delvm_mm.hardware import choose_device
from machine import machine

CLASSES = 1000
TINY = dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="of each method in a round")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--attention", nargs="+", default=["causal", "bidirectional"])
    parser.add_argument("--device", default=str(choose_device()))
    parser.add_argument("--quick", action="store_true", help="tiny models and two rounds: only to see that it runs")
    args = parser.parse_args()
    size = 64 if args.quick else 224
    if args.quick:
        args.batch_size, args.rounds = 2, 2

    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    print(machine(args.device))
    names = ["VisionTransformer", *(f"VisionLLaMA, {attention}" for attention in args.attention)]
    backbones = [
        dict(type="VisionTransformer", arch={**TINY, "feedforward_channels": 256} if args.quick else "base"),
        *(
            dict(type="delvm_mm.VisionLLaMA", arch=TINY if args.quick else "80m", attention=attention)
            for attention in args.attention
        ),
    ]
    models = {name: build(backbone, size) for name, backbone in zip(names, backbones, strict=True)}
    flops = {name: count_complexity(model, (3, size, size))["flops"] for name, model in models.items()}
    images = torch.randn(args.batch_size, 3, size, size, device=args.device)
    samples = [DataSample().set_gt_label(index % CLASSES).to(args.device) for index in range(args.batch_size)]

    methods: dict[tuple[str, str, str], Callable[[], None]] = {}
    for name, model in models.items():
        model.to(args.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
        for precision in args.precisions:
            methods["training", precision, name] = partial(train, model, optimizer, images, samples, precision)
            methods["inference", precision, name] = partial(infer, model, images, precision)
    log = Console(stderr=True)  # progress: on a busy machine a round takes long
    for method in methods.values():
        method()
    seconds: dict[tuple[str, str, str], list[float]] = {key: [] for key in methods}
    for turn in range(args.rounds):
        for key, method in methods.items():
            start = time.perf_counter()
            for _ in range(args.steps):
                method()
            if args.device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds[key].append((time.perf_counter() - start) / args.steps)
        log.print(f"round {turn + 1} of {args.rounds}")
    print_table(seconds, flops, models, args)


def build(backbone: dict, size: int) -> nn.Module:
    """A classifier with a plain linear head, on the CPU."""
    width = backbone["arch"]["embed_dims"] if isinstance(backbone["arch"], dict) else 768
    head = dict(type="VisionTransformerClsHead", num_classes=CLASSES, in_channels=width)
    return MODELS.build(
        dict(type="ImageClassifier", backbone=dict(**backbone, img_size=size, patch_size=16), head=head)
    )


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, samples: list[DataSample], precision: str
) -> None:
    """One step of training."""
    model.train()
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        loss = model(images, samples, mode="loss")["loss"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def infer(model: nn.Module, images: Tensor, precision: str) -> None:
    """The scores of a batch."""
    model.eval()
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        model(images, mode="tensor")


def print_table(
    seconds: dict[tuple[str, str, str], list[float]],
    flops: dict[str, float],
    models: dict[str, nn.Module],
    args: argparse.Namespace,
) -> None:
    """Images a second of the best round, and ratios to ``VisionTransformer``: the best, and the median over rounds."""
    table = Table("", "model", "M parameters", "G an image", "images/s", "ratio", "ratio of multiply-adds/s", "median")
    reference = next(iter(models))
    for (what, precision, name), times in seconds.items():
        peer = seconds[what, precision, reference]
        ratio = min(peer) / min(times)
        median = statistics.median(theirs / ours for theirs, ours in zip(peer, times, strict=True))
        share = flops[name] / flops[reference]
        table.add_row(
            f"{what}, {precision}",
            name,
            f"{sum(parameter.numel() for parameter in models[name].parameters()) / 1e6:.1f}",
            f"{flops[name] / 1e9:.2f}",
            f"{args.batch_size / min(times):.2f}",
            f"{ratio:.2f}",
            f"{ratio * share:.2f}",
            f"{median * share:.2f}",
        )
    Console(width=140).print(table)
    print(f"batches of {args.batch_size}, {args.rounds} rounds in turns; causal attention is counted in full")


if __name__ == "__main__":
    main()
