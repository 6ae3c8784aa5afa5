"""Small copies of every data set that a config here reads, in its published layout."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.layouts_people import write_coco_pose, write_mpii, write_voc
from helpers.layouts_restoration import (
    write_frame_folders,
    write_gopro,
    write_image_folder,
    write_imagenet,
    write_rain13k,
    write_rain_lmdb,
)
from helpers.layouts_sa1b import write_archive


def write_coco(folder: Path, num_images: int = 3, size: int = 96) -> None:
    """COCO's keypoints, both splits."""
    write_coco_pose(folder, num_images, "train2017", size)
    # Both splits have one annotation folder.
    other = folder / "other"
    write_coco_pose(other, num_images, "val2017", size, start=50)
    (other / "val2017").rename(folder / "val2017")
    name = "person_keypoints_val2017.json"
    (other / "annotations" / name).rename(folder / "annotations" / name)
    shutil.rmtree(other)


def write_both_mpii(folder: Path, num_images: int = 2, size: int = 96) -> None:
    """MPII, both splits."""
    write_mpii(folder, num_images, "train", size)
    write_mpii(folder, num_images, "val", size, start=10)


def write_pets(folder: Path, count: int = 6, size: tuple[int, int] = (48, 64)) -> None:
    """Oxford-IIIT Pet as the zoo has it: images, trimaps, ``train.txt`` and ``val.txt`` of half of them each."""
    paths = write_image_folder(folder / "images", count, size)
    trimap = np.full(size, 2, np.uint8)
    trimap[8:40, 10:50] = 3
    trimap[12:36, 14:46] = 1
    (folder / "annotations" / "trimaps").mkdir(parents=True)
    names = []
    for number, path in enumerate(sorted(paths)):
        image = folder / "images" / f"pet_{number}.jpg"
        Image.open(path).convert("RGB").save(image)
        path.unlink()
        Image.fromarray(np.roll(trimap, number, 1)).save(folder / "annotations" / "trimaps" / f"{image.stem}.png")
        names.append(f"{image.stem}\n")
    for split, part in (("train", names[: count // 2]), ("val", names[count // 2 :])):
        (folder / f"{split}.txt").write_text("".join(part))


def write_lspet(folder: Path, num_images: int = 4, size: int = 96) -> None:
    """Leeds Sports Pose Extended as ``configs/real`` reads it: COCO's form, the images of both parts in one folder."""
    write_coco(folder, num_images, size)
    (folder / "images").mkdir()
    for part in ("train", "val"):
        for image in (folder / f"{part}2017").iterdir():
            image.rename(folder / "images" / image.name)
        (folder / f"{part}2017").rmdir()
        name = "annotations/person_keypoints_{}.json"
        (folder / name.format(f"{part}2017")).rename(folder / name.format(part))


# Config of configs/tokens -> folder of its data set below data/, what writes a copy, images of a clip.
COPIES = {
    "coco_pose": ("coco", write_coco, 2),
    "frames": ("videos", lambda folder: write_frame_folders(folder, frames=30), 8),
    "gopro": ("GOPRO_Large", write_gopro, 2),
    "imagenet": ("imagenet", lambda folder: write_imagenet(folder, form="meta"), 1),
    "images": ("images", write_image_folder, 1),
    "mpii": ("mpii", write_both_mpii, 2),
    "pascal5i": (".", lambda folder: write_voc(folder, num_sbd=3), 2),
    "rain13k": ("rain13k", write_rain13k, 2),
    "rain13k_lmdb": ("rain13k", write_rain_lmdb, 2),
    "sa1b": ("sa1b", lambda folder: write_archive(folder / "sa_000000.tar", range(10, 30), size=(820, 1200)), 2),
}
