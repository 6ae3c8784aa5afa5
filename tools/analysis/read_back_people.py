"""Draw all people of a COCO file, read them back from the drawing, and score that as COCO scores a model.

    python tools/analysis/read_back_people.py ../shared/data/coco_mini --size 512 256 --radius 2 4 8

The drawing of each image, letterboxed to SIZE pixels, is what a bottom-up model would have to write; people are read
from it, mapped back to the image as it was published, and scored by mmpose.CocoMetric there, with COCO's own areas and
what COCO's evaluation ignores. No model can be better than this ceiling; 'nothing', an answer without people, has 0.
--blur, --noise and --jpeg do to the drawing what tokenizers and files do.
"""

import sys

try:
    import delvm_mm  # noqa: F401
except ImportError as error:  # MMEngine or mmcv is missing or unusable; the message says what to install
    sys.exit(f"error: {error}")


import argparse
import logging
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

from delvm_mm.codecs import SkeletonCodec
from delvm_mm.datasets import CocoPoseDataset, DrawLabel, KeepAnnotation, Letterbox, LoadImage
from delvm_mm.engine.launch import user_errors
from delvm_mm.evaluation import VisionPromptEvaluator
from delvm_mm.visualization.panels import write_image

COLUMNS = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR")


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", help="folder with annotations/ and the images, in COCO's layout")
    parser.add_argument("--ann-file", default="annotations/person_keypoints_train2017.json")
    parser.add_argument("--img-dir", default="train2017")
    parser.add_argument("--size", type=int, nargs="+", default=[512], help="side of the drawing in pixels")
    parser.add_argument("--radius", type=float, nargs="+", default=[2.0], help="of a disc; limbs are as wide")
    parser.add_argument("--blur", type=float, default=0, help="sigma of a blur in pixels")
    parser.add_argument("--noise", type=float, default=0, help="sigma of Gaussian noise, of 255")
    parser.add_argument("--jpeg", type=int, help="quality of a JPEG")
    parser.add_argument("--show-dir", help="write the drawings beside the people that were read into this folder")
    return parser.parse_args(arguments)


def degrade(image: np.ndarray, args: argparse.Namespace, rng: np.random.Generator) -> np.ndarray:
    """The drawing as it comes back from a tokenizer or a file."""
    if args.blur:
        image = cv2.GaussianBlur(image, (0, 0), args.blur)
    if args.noise:
        image = np.clip(image + rng.normal(0, args.noise, image.shape), 0, 255).astype(np.uint8)
    if args.jpeg:
        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, args.jpeg])[1]
        image = np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])
    return image


def score(args: argparse.Namespace, size: int, radius: float) -> dict[str, float]:
    """CocoMetric's results for one size of the image and the discs."""
    codec = SkeletonCodec(radius=radius, thickness=max(radius / 2, 0.5), max_people=20)
    dataset = CocoPoseDataset(
        args.data_root,
        ann_file=args.ann_file,
        img_dir=args.img_dir,
        ignored=True,
        pipeline=[LoadImage(), KeepAnnotation(codec), Letterbox(size), DrawLabel(codec)],
    )
    evaluator = VisionPromptEvaluator(
        codec, dict(type="mmpose.CocoMetric"), ceiling=False, trivial=False, original=True
    )
    rng = np.random.default_rng(0)
    for number in range(len(dataset)):
        sample = dataset[number]
        drawing = degrade(sample["label"], args, rng)
        evaluator.process([{**sample, "pred_image": drawing}])
        if args.show_dir:
            again = codec.encode(codec.decode(drawing))
            name = f"{sample['img_id']}_{size}_{radius:g}.png"
            write_image(Path(args.show_dir) / name, np.concatenate([sample["img"], drawing, again], 1))
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with redirect_stdout(StringIO()):  # pycocotools prints
        return evaluator.evaluate(len(dataset))


@user_errors
def main(arguments: list[str] | None = None) -> None:
    """Print the table; see above."""
    args = parse_args(arguments)
    init_default_scope("delvm_mm")
    if args.show_dir:
        Path(args.show_dir).mkdir(parents=True, exist_ok=True)
    table = Table("size", "radius", *COLUMNS, title="People read back from their drawing (nothing drawn: 0)")
    for size in args.size:
        for radius in args.radius:
            of_one = score(args, size, radius)
            table.add_row(str(size), f"{radius:g}", *(f"{of_one[f'coco/{name}']:.3f}" for name in COLUMNS))
    Console().print(table)


if __name__ == "__main__":
    main()
