"""A soak in damage: over two hundred damaged samples of 15 kinds among sound ones, each named, none in a store."""

import contextlib
import json
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import ConcatDataset

from delvm_mm.datasets import CocoPoseDataset, ImageFolderDataset, Pascal5iDataset, RainDataset, SA1BDataset
from delvm_mm.precompute import tokenize_clips
from helpers.layouts_people import save_label_map, write_coco_pose, write_voc
from helpers.layouts_restoration import write_pairs, write_rain_lmdb
from helpers.layouts_sa1b import write_archive, write_folder

EACH = 16  # damaged files of a kind
RESIZE = [dict(type="ResizeShortSide", size=32), dict(type="CenterCrop", size=32)]
LOAD = [dict(type="LoadImage")]
PACK = [dict(type="PackClip")]
PAIR = [*LOAD, dict(type="LoadImage", key="gt_img"), *RESIZE, dict(type="PackClip", keys=("img", "gt_img"))]


def drawn(codec):
    return [*LOAD, *RESIZE, dict(type="DrawLabel", codec=dict(type=codec)), *PACK]


def cut(path, share=0.5):
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * share)])


def image(path, number, size=(40, 48)):
    Image.fromarray(np.random.RandomState(number).randint(0, 256, (*size, 3), np.uint8)).save(path)


def images(folder, damage, suffix, resize=32):
    """A folder of twice as many images as damaged ones; the names of these."""
    folder.mkdir()
    damaged = []
    for number in range(2 * EACH):
        path = folder / f"{number:03d}{suffix}"
        image(path, number)
        if number % 2:
            damage(path, number)
            damaged.append(path.name)
    sizes = dict(type="ResizeShortSide", size=resize), dict(type="CenterCrop", size=resize)
    return ImageFolderDataset(folder, pipeline=[*LOAD, *sizes, dict(type="PackClip", keys=("img",))]), damaged


def truncated_jpeg(folder):
    return images(folder, lambda path, n: cut(path, 0.1 + 0.8 * n / (2 * EACH)), ".jpg")


def truncated_png(folder):
    return images(folder, lambda path, n: cut(path, 0.01 + 0.9 * n / (2 * EACH)), ".png")


def zero_bytes(folder):
    return images(folder, lambda path, n: path.write_bytes(b""), ".jpg")


def floating_point_image(folder):
    def damage(path, number):
        Image.fromarray(np.random.RandomState(number).rand(40, 48).astype(np.float32)).save(path)

    return images(folder, damage, ".tiff")


def one_pixel(folder):
    return images(folder, lambda path, n: image(path, n, (1, 1)), ".png")


def extreme_aspect(folder):
    return images(folder, lambda path, n: image(path, n, (2, 30_000)), ".png", resize=256)


def huge_header(folder):
    def damage(path, number):
        header = b"IHDR" + struct.pack(">IIBBBBB", 100_000 + number, 100_000, 8, 2, 0, 0, 0)
        content = path.read_bytes()
        path.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])

    return images(folder, damage, ".png")


def no_permission(folder):
    return images(folder, lambda path, n: path.chmod(0), ".jpg")


def bad_json(folder):
    names = write_folder(folder, range(100, 100 + 2 * EACH))
    damaged = names[::2]
    for number, name in enumerate(damaged):
        path = Path(name).with_suffix(".json")
        content = path.read_bytes()
        path.write_bytes([content[: len(content) // 2], b"", b"\xff\xfe{}", b"[1, 2", b'{"image": {}}'][number % 5])
    return SA1BDataset(folder, pipeline=drawn("RandomColorMaskCodec")), [Path(name).stem for name in damaged]


def rle_of_another_size(folder):
    names = write_folder(folder, range(100, 100 + 2 * EACH))
    damaged = names[::2]
    for number, name in enumerate(damaged):
        path = Path(name).with_suffix(".json")
        content = json.loads(path.read_text())
        segmentation = content["annotations"][-1]["segmentation"]
        height, width = segmentation["size"]
        segmentation["size"] = [(height + 1, width), (width, height), (1 << 40, 1 << 40)][number % 3]
        path.write_text(json.dumps(content))
    return SA1BDataset(folder, pipeline=drawn("RandomColorMaskCodec")), [Path(name).stem for name in damaged]


def keypoints_outside(folder):
    path = write_coco_pose(folder, 2 * EACH + 1, split="val2017")
    content = json.loads(path.read_text())
    damaged = []
    for image in content["images"][: 2 * EACH : 2]:
        person = next(a for a in content["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"])
        labeled = next(i for i in range(17) if person["keypoints"][3 * i + 2])
        person["keypoints"][3 * labeled] = 10 * image["width"]
        damaged.append(str(person["id"]))
    path.write_text(json.dumps(content))
    dataset = CocoPoseDataset(
        folder,
        ann_file="annotations/person_keypoints_val2017.json",
        img_dir="val2017",
        pipeline=drawn("SkeletonCodec"),
    )
    return dataset, damaged


def missing_pair(folder):
    inputs = write_pairs(folder / "train" / "Rain13K", 2 * EACH)
    for path in inputs[::2]:
        (folder / "train" / "Rain13K" / "target" / path.name).unlink()
    return RainDataset(folder, pipeline=PAIR), [path.stem for path in inputs[::2]]


def label_map_in_colors(folder):
    root = write_voc(folder, num_train=0, num_val=2 * EACH, class_of=lambda i: (1 + i % 5,))
    damaged = sorted((root / "SegmentationClass").iterdir())[::2]
    for number, path in enumerate(damaged):
        if number % 2:
            Image.open(path).convert("RGB").save(path)
        else:
            save_label_map(path, np.full((72, 96), 200, np.uint8))
    return Pascal5iDataset(root, fold=0, pipeline=drawn("ForegroundMaskCodec")), [path.stem for path in damaged]


def lmdb_cut_short(folder):
    pytest.importorskip("lmdb")
    # One file is damaged, and with it all of its samples; those of another LMDB are sound.
    for name in ("cut", "sound"):
        write_rain_lmdb(folder / name, train=EACH)
    cut(folder / "cut" / "train" / "Rain13K" / "input.lmdb" / "data.mdb", 0.7)
    readers = [RainDataset(folder / name, form="lmdb", pipeline=PAIR) for name in ("cut", "sound")]
    return ConcatDataset(readers), ["cut/train/Rain13K/input.lmdb/data.mdb"] * EACH


def tar_cut_short(folder):
    folder.mkdir()
    damaged = []
    for number in range(EACH):
        path = write_archive(folder / f"sa_{number:06d}.tar", range(10 * number + 1, 10 * number + 4))
        last = f"sa_{10 * number + 3}.jpg"
        content = path.read_bytes()
        path.write_bytes(content[: content.rindex(last.encode()) + 512 + 100])
        damaged.append(f"{path.name}/{last}")
    with pytest.warns(UserWarning, match=r"sa_000000\.tar"):
        return SA1BDataset(folder, pipeline=drawn("RandomColorMaskCodec")), damaged


KINDS = [
    truncated_jpeg,
    truncated_png,
    zero_bytes,
    floating_point_image,
    one_pixel,
    extreme_aspect,
    huge_header,
    no_permission,
    bad_json,
    rle_of_another_size,
    keypoints_outside,
    missing_pair,
    label_map_in_colors,
    lmdb_cut_short,
    tar_cut_short,
]


@contextlib.contextmanager
def ordinary_user(folder):
    """Root may read everything: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    for path in [folder, *folder.parents]:
        if path.stat().st_uid == 0 and str(path).startswith("/tmp"):
            path.chmod(path.stat().st_mode | 0o711)
    folder.chmod(0o777)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.filterwarnings("ignore:.* is no whole tar archive")
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_counted_and_left_out(tmp_path, tokenizer, kind):
    dataset, damaged = kind(tmp_path / "data")
    assert len(damaged) == EACH
    with ordinary_user(tmp_path) if kind is no_permission else contextlib.nullcontext():
        store = tokenize_clips(dataset, tokenizer, tmp_path / "store", on_error="skip", shard_clips=10)
        with pytest.raises((ValueError, OSError)) as stopped:
            tokenize_clips(dataset, tokenizer, tmp_path / "other", on_error="stop", shard_clips=10)
    store.verify()
    errors = [entry["error"] for entry in store.skipped]
    assert len(errors) == EACH and len(store) == len(dataset) - EACH
    for name, error in zip(sorted(damaged), sorted(errors, key=lambda e: _first(e, damaged)), strict=True):
        assert name in error and len(error) < 500 and "Traceback" not in error, error
    assert any(name in str(stopped.value) for name in damaged)


def _first(error, names):
    """The name that an error gives."""
    return next((name for name in sorted(names) if re.search(rf"(?<!\d){re.escape(name)}(?!\d)", error)), error)
