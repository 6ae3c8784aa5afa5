"""From an SA-1B annotation file to the label image: this package against a plain loop with pycocotools.

The plain loop decodes each mask to pixels with pycocotools and paints it. Both start from the bytes of the JSON file
and end with the RGB image at full size, in turns, on one thread. Annotations are generated: smooth shapes, few large
and many small, overlapping.

    python tools/benchmarks/benchmark_sa1b.py                            # 100 masks at 1500 x 2250
    python tools/benchmarks/benchmark_sa1b.py --masks 300 --images 4
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.table import Table

from delvm_mm.codecs.masks.color_mask import RandomColorMaskCodec
from delvm_mm.codecs.masks.instance_map import instance_map
from machine import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20, help="annotation files")
    parser.add_argument("--masks", type=int, default=100, help="masks of each")
    parser.add_argument("--size", type=int, nargs=2, default=(1500, 2250), help="height and width", metavar=("H", "W"))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    codec = RandomColorMaskCodec()

    def ours(content: bytes) -> np.ndarray:
        annotation = json.loads(content)
        shape = annotation["image"]["height"], annotation["image"]["width"]
        return codec.encode(instance_map(annotation["annotations"], shape))

    ways = {"plain loop": plain_loop, "instance_map and codec": ours}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    content_bytes = []
    for way in ways.values():  # what only the first call does
        way(generate_annotation(np.random.default_rng(0), 70, (60, 90)))
    for number in range(args.images):
        content = generate_annotation(np.random.default_rng(number), args.masks, tuple(args.size))
        content_bytes.append(len(content))
        images = {}
        for name, way in ways.items():
            images[name], spent = timed(way, content)
            seconds[name].append(spent)
        check_same_segmentation(*images.values())

    console = Console()
    console.print(
        f"{args.images} images, {args.masks} masks at {args.size[0]} x {args.size[1]}, JSON files of "
        f"{median(content_bytes) / 1000:.0f} kB; {machine()}"
    )
    table = Table("", "images/s a core", "ms, median", "ms, slowest", "ratio")
    slowest = sum(seconds["plain loop"])
    for name, spent in seconds.items():
        milliseconds = [1000 * second for second in spent]
        table.add_row(
            name,
            f"{len(spent) / sum(spent):.1f}",
            f"{median(milliseconds):.1f}",
            f"{max(milliseconds):.1f}",
            f"{slowest / sum(spent):.1f}",
        )
    console.print(table)


def timed(way: Callable[[bytes], np.ndarray], content: bytes) -> tuple[np.ndarray, float]:
    """The image and the CPU seconds of this process, in which other programs on the machine do not count."""
    start = time.process_time()
    image = way(content)
    return image, time.process_time() - start


def plain_loop(content: bytes) -> np.ndarray:
    """What one would write first."""
    annotation = json.loads(content)
    image = np.zeros((annotation["image"]["height"], annotation["image"]["width"], 3), np.uint8)
    rng = np.random.default_rng(0)
    for mask in sorted(annotation["annotations"], key=lambda mask: -mask["area"]):
        image[coco_mask.decode(mask["segmentation"]).astype(bool)] = rng.integers(1, 256, 3)
    return image


def generate_annotation(rng: np.random.Generator, masks: int, size: tuple[int, int]) -> bytes:
    """An annotation file like SA-1B's: areas spread evenly over their logarithm, one mask a background."""
    height, width = size
    annotations = []
    for number in range(masks):
        area = 0.4 if number == 0 else np.exp(rng.uniform(np.log(3e-5), np.log(0.15)))
        radius = np.sqrt(area * height * width / np.pi)
        angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        waves = [rng.normal(0, 0.35 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in range(2, 7)]
        outline = radius * np.maximum(1 + sum(waves), 0.2) * np.stack([np.cos(angles), np.sin(angles)])
        stretch = np.exp(rng.normal(0, 0.4))
        turn = rng.uniform(0, 2 * np.pi)
        turned = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]] @ (outline * [[stretch], [1 / stretch]])
        points = turned.T + rng.uniform(0, 1, 2) * [width, height]
        mask = np.zeros(size, np.uint8)
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
        rle = coco_mask.encode(np.asfortranarray(mask))
        annotations.append(
            dict(
                bbox=coco_mask.toBbox(rle).tolist(),
                area=int(coco_mask.area(rle)),
                segmentation=dict(size=list(size), counts=rle["counts"].decode()),
                predicted_iou=0.97,
                point_coords=[points[0].tolist()],
                crop_box=[0.0, 0.0, float(width), float(height)],
                id=number,
                stability_score=0.98,
            )
        )
    image = dict(image_id=1, width=width, height=height, file_name="sa_1.jpg")
    return json.dumps(dict(image=image, annotations=annotations)).encode()


def check_same_segmentation(plain: np.ndarray, ours: np.ndarray) -> None:
    """Colors differ; where two neighboring pixels differ must not."""
    for axis in (0, 1):
        borders = [np.diff(image.astype(np.int16), axis=axis).any(-1) for image in (plain, ours)]
        if not np.array_equal(*borders):
            raise SystemExit("error: the two images show other masks; the figures would mean nothing")


if __name__ == "__main__":
    main()
