"""Tokenizing a folder of images: ``tokenize_clips`` against a plain loop, in turns, with the same tokenizer.

The plain loop is what one would write first: PIL, batches of 16, float32, JSON lines. The tokenizer has the published
shape and random weights, unless a folder is given.

    python tools/benchmarks/benchmark_tokenize.py                      # 512 images, some 20 minutes on two CPU cores
    python tools/benchmarks/benchmark_tokenize.py --images 64 --rounds 2
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import init_default_scope
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from delvm_mm.datasets import ImageFolderDataset, ProceduralScenes
from delvm_mm.hardware import choose_device
from delvm_mm.models import VQGAN, load_tokenizer
from delvm_mm.precompute import tokenize_clips
from machine import machine

BATCH = 16
PIPELINE = [
    dict(type="LoadImage"),
    dict(type="ResizeShortSide", size=256),
    dict(type="CenterCrop", size=256),
    dict(type="PackClip", keys=("img",), factor=16),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=8, help="turns; each does its share of the images")
    parser.add_argument("--tokenizer", help="folder of a published tokenizer; random weights without one")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", default=str(choose_device()))
    parser.add_argument("--batch-clips", type=int, help="of tokenize_clips; 16 on a CPU, 128 on a GPU by default")
    parser.add_argument("--num-workers", type=int, help="of tokenize_clips; 1 on a CPU, 8 on a GPU by default")
    args = parser.parse_args()
    on_gpu = args.device.startswith("cuda")
    batch_clips = args.batch_clips or (128 if on_gpu else BATCH)
    num_workers = (8 if on_gpu else 1) if args.num_workers is None else args.num_workers

    init_default_scope("delvm_mm")
    torch.manual_seed(0)
    tokenizer = VQGAN.from_pretrained(args.tokenizer) if args.tokenizer else VQGAN()
    # tokenize_clips lays the weights out anew: the plain loop keeps its own.
    plain = VQGAN(**tokenizer.config)
    plain.load_state_dict(tokenizer.state_dict())
    plain = load_tokenizer(plain).to(args.device)

    names = ["plain loop", *(f"tokenize_clips, {precision}" for precision in args.precisions)]
    seconds = dict.fromkeys(names, 0.0)
    differing = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        parts = make_images(Path(folder), args.images, args.rounds)
        run_plain(plain, parts[0][:1], Path(folder) / "warm-up.json", args.device)
        for turn, files in enumerate(parts):
            start = time.perf_counter()
            expected = run_plain(plain, files, Path(folder) / f"{turn}.json", args.device)
            seconds[names[0]] += time.perf_counter() - start
            for name, precision in zip(names[1:], args.precisions, strict=True):
                start = time.perf_counter()
                store = tokenize_clips(
                    ImageFolderDataset(files[0].parent, pipeline=PIPELINE),
                    tokenizer,
                    Path(folder) / f"{turn}-{precision}",
                    batch_clips=batch_clips,
                    num_workers=num_workers,
                    device=args.device,
                    precision=precision,
                )
                seconds[name] += time.perf_counter() - start
                differing[name].append(np.mean([(store[i][0] != expected[i]).mean() for i in range(len(files))]))
            done = (turn + 1) / len(parts)
            print(
                f"turn {turn + 1} of {len(parts)}, {sum(seconds.values()) / done * (1 - done):.0f} s left", flush=True
            )
    table = Table("", "images/s", "ratio", "tokens that differ")
    for name in names:
        share = f"{np.mean(differing[name]):.2%}" if differing[name] else ""
        table.add_row(name, f"{args.images / seconds[name]:.2f}", f"{seconds[names[0]] / seconds[name]:.2f}", share)
    Console().print(table)
    print(f"{args.images} JPEG of 640x480 to 16x16 tokens, {args.device}; {machine(args.device)}")


def make_images(folder: Path, count: int, rounds: int) -> list[list[Path]]:
    """JPEG files of drawn scenes, 640 x 480, in one folder a round."""
    scenes = ProceduralScenes(task="derain", size=640, length=min(count, 32))
    images = [scenes[i]["img"][:480] for i in range(len(scenes))]
    parts = []
    for turn, numbers in enumerate(np.array_split(np.arange(count), rounds)):
        (folder / f"images{turn}").mkdir()
        parts.append([folder / f"images{turn}" / f"{number:06d}.jpg" for number in numbers])
        for number, file in zip(numbers, parts[-1], strict=True):
            # A small shift makes every image another one.
            Image.fromarray(np.roll(images[number % len(images)], number, axis=1)).save(file, quality=90)
    return parts


@torch.no_grad()
def run_plain(tokenizer: nn.Module, files: list[Path], out: Path, device: str) -> list[np.ndarray]:
    """The plain loop; tokens of each image."""
    tokens: list[np.ndarray] = []
    with open(out, "w") as stream:
        for start in range(0, len(files), BATCH):
            batch = torch.stack([load(file) for file in files[start : start + BATCH]]).to(device)
            for row in tokenizer.encode(batch).cpu():
                stream.write(json.dumps({"tokens": row.tolist()}) + "\n")
                tokens.append(row.numpy())
    return tokens


def load(file: Path) -> Tensor:
    image = Image.open(file).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = round((image.width - 256) / 2), round((image.height - 256) / 2)
    image = np.array(image.crop((left, top, left + 256, top + 256)))
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    main()
