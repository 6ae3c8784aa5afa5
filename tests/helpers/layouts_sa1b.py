"""Small copies of SA-1B in the layout in which it is published: archives, or what they unpack to.

Images are drawn things that overlap, so that a sheet of them can be judged by eye; each thing is one mask, all of
it, also what another one hides, as in SA-1B.
"""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask


def thing_masks(number: int, size: tuple[int, int], masks: int) -> list[np.ndarray]:
    """Ellipses and boxes, bool H x W, from large to small in no fixed order."""
    rng, (height, width) = np.random.default_rng(number), size
    drawn = []
    for _ in range(masks):
        mask = np.zeros(size, np.uint8)
        center = (rng.uniform(0, 1, 2) * [width, height]).astype(int).tolist()
        axes = np.maximum(min(size) * np.exp(rng.uniform(-3, -0.9, 2)), 2).astype(int)
        if rng.random() < 0.7:
            cv2.ellipse(mask, center, axes.tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
        else:
            cv2.rectangle(mask, (center - axes).tolist(), (center + axes).tolist(), 1, -1)
        drawn.append(mask > 0)
    return drawn


def image_of(masks: list[np.ndarray], number: int, size: tuple[int, int]) -> np.ndarray:
    """The things before a sky, small ones before large ones, each shaded; uint8 H x W x 3."""
    rng = np.random.default_rng(1000 + number)
    shade = np.linspace(0.6, 1.2, size[0])[:, None, None] * np.linspace(1, 0.8, size[1])[None, :, None]
    image = np.broadcast_to(rng.uniform(60, 200, 3), (*size, 3)).copy()
    for mask in sorted(masks, key=lambda mask: -mask.sum()):
        image[mask] = rng.uniform(20, 230, 3)
    return np.clip(image * shade + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def annotation_of(masks: list[np.ndarray], number: int, size: tuple[int, int]) -> dict:
    """The content of ``sa_<number>.json``."""
    annotations = []
    for position, mask in enumerate(masks):
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        annotations.append(
            {
                "bbox": coco_mask.toBbox(rle).tolist(),
                "area": int(coco_mask.area(rle)),
                "segmentation": {"size": list(size), "counts": rle["counts"].decode("ascii")},
                "predicted_iou": 0.97,
                "point_coords": [[float(size[1] // 2), float(size[0] // 2)]],
                "crop_box": [0.0, 0.0, float(size[1]), float(size[0])],
                "id": 1000 * number + position,
                "stability_score": 0.98,
            }
        )
    image = {"image_id": number, "width": size[1], "height": size[0], "file_name": f"sa_{number}.jpg"}
    return {"image": image, "annotations": annotations}


def files_of(number: int, size: tuple[int, int] = (60, 90), masks: int = 6) -> dict[str, bytes]:
    """The image and annotation file of one number, by name."""
    drawn = thing_masks(number, size, masks)
    _, image = cv2.imencode(".jpg", image_of(drawn, number, size)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    annotation = json.dumps(annotation_of(drawn, number, size))
    return {f"sa_{number}.jpg": image.tobytes(), f"sa_{number}.json": annotation.encode()}


def write_folder(folder: Path, numbers: Iterable[int], size: tuple[int, int] = (60, 90), masks: int = 6) -> list[Path]:
    """An unpacked archive; returns its images."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for number in numbers:
        for name, content in files_of(number, size, masks).items():
            (folder / name).write_bytes(content)
        images.append(folder / f"sa_{number}.jpg")
    return images


def write_archive(path: Path, numbers: Iterable[int], size: tuple[int, int] = (60, 90), masks: int = 6) -> Path:
    """An archive as it is published: names begin with './', and the folder itself is an entry."""
    contents = {}
    for number in numbers:
        contents |= files_of(number, size, masks)
    return write_tar(path, contents)


def write_tar(path: Path, contents: dict[str, bytes]) -> Path:
    """An archive of files given by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        folder = tarfile.TarInfo("./")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path
