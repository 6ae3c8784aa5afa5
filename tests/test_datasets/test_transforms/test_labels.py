"""Depth maps beside images, boxes around masks, and depth that moves with the image."""

import numpy as np
import pytest
from PIL import Image

from delvm_mm.codecs.mapping import map_prediction_back
from delvm_mm.datasets import (
    CenterCrop,
    DrawLabel,
    LoadDepth,
    LoadImage,
    MaskToBox,
    PairedFolderDataset,
    ResizeShortSide,
)


def write_depth(folder, values, name="a"):
    for place in ("rgb", "depth"):
        (folder / place).mkdir(exist_ok=True)
    height, width = values.shape[:2]
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(folder / "rgb" / f"{name}.png")
    Image.fromarray(values).save(folder / "depth" / f"{name}.png")
    return folder


def read(folder, *steps, **arguments):
    pipeline = [LoadImage(), LoadDepth(**arguments), *steps]
    return PairedFolderDataset(folder, "rgb", "depth", task="depth", pipeline=pipeline)[0]


def test_millimeters_become_meters_and_move_with_the_image(tmp_path):
    values = np.arange(30 * 50, dtype=np.uint16).reshape(30, 50) * 10
    write_depth(tmp_path, values)
    np.testing.assert_allclose(read(tmp_path)["gt_depth_map"], values / 1000, rtol=1e-6)
    np.testing.assert_allclose(read(tmp_path, scale=256)["gt_depth_map"], values / 256, rtol=1e-6)
    draw = DrawLabel(dict(type="DepthCodec", min_depth=1, max_depth=15))
    sample = read(tmp_path, ResizeShortSide(15), CenterCrop(15), draw)
    # Every second value: under the centers of the new pixels.
    wanted = values[1::2, 1::2][:, 5:20] / 1000
    np.testing.assert_allclose(sample["annotation"], wanted, rtol=1e-6)
    assert sample["label"].shape == (15, 15, 3)
    back = map_prediction_back(sample["annotation"], sample["affine"], (30, 50))
    assert back.dtype == np.float32 and back[3, 20] == np.float32(wanted[1, 5]) and back[3, 2] == 0


def test_bad_depth_maps_are_named(tmp_path):
    write_depth(tmp_path, np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a.png has mode RGB, expected a gray image"):
        read(tmp_path)
    write_depth(tmp_path, np.zeros((8, 9), np.uint16))
    Image.new("RGB", (5, 8)).save(tmp_path / "rgb" / "a.png")
    with pytest.raises(ValueError, match=r"a.png has 9x8 pixels, its image .* 5x8"):
        read(tmp_path)
    (tmp_path / "depth" / "a.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as a depth map"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="no depth map at"):
        LoadDepth()(dict(gt_img_path="gone.png"))
    with pytest.raises(ValueError, match="needs 'gt_img_path'"):
        LoadDepth()({})
    with pytest.raises(ValueError, match="scale is 0"):
        LoadDepth(scale=0)


def test_a_box_is_around_the_foreground():
    labels = np.zeros((10, 12), np.uint8)
    labels[3:7, 2] = 1
    labels[5, 2:9] = 2
    labels[0] = 255
    assert MaskToBox()(dict(gt_seg_map=labels))["bbox"].tolist() == [[2, 3, 9, 7]]
    with pytest.raises(ValueError, match=r"some\.png has no foreground"):
        MaskToBox()(dict(gt_seg_map=np.where(labels == 255, labels, 0), img_path="some.png"))
    with pytest.raises(ValueError, match="needs 'gt_seg_map'"):
        MaskToBox()({})
