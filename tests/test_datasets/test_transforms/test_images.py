"""Images and what is annotated on them stay together through loading, resizing, cropping and drawing."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as torchvision
from PIL import Image

from delvm_mm.datasets import (
    CenterCrop,
    DrawLabel,
    KeepAnnotation,
    Letterbox,
    LoadImage,
    PackClip,
    PackTokens,
    ResizeShortSide,
    VQGANTokenize,
)


class MaskDrawer:
    """Codec that draws the mask black and white."""

    def annotation_of(self, results):
        return results["gt_seg_map"]

    def encode(self, annotation):
        return np.repeat(annotation[..., None] * np.uint8(255), 3, -1)


def image(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8)


def test_load_image_sets_image_and_shapes(tmp_path):
    Image.fromarray(image(5, 7)).save(tmp_path / "a.png")
    results = LoadImage()({"img_path": tmp_path / "a.png", "gt_img_path": tmp_path / "a.png"})
    assert np.array_equal(results["img"], image(5, 7)) and results["img_shape"] == results["ori_shape"] == (5, 7)
    assert np.array_equal(LoadImage("gt_img")(results)["gt_img"], image(5, 7))
    with pytest.raises(ValueError, match="needs 'img_path'"):
        LoadImage()({})


@pytest.mark.parametrize("shape", [(50, 71), (71, 50), (20, 33), (32, 32)])
def test_resize_and_crop_are_torchvisions(shape):
    """As published: torchvision on PIL images, short side and center crop, bilinear with antialiasing."""
    results = CenterCrop(32)(ResizeShortSide(32)({"img": image(*shape)}))
    expected = torchvision.resize(Image.fromarray(image(*shape)), [32], torchvision.InterpolationMode.BILINEAR)
    expected = torchvision.center_crop(expected, [32])
    assert np.array_equal(results["img"], np.asarray(expected)) and results["img_shape"] == (32, 32)


@pytest.mark.parametrize("shape, size", [((40, 60), 20), ((41, 67), 16), ((11, 13), 25)])
def test_masks_are_resized_by_pillows_nearest_in_any_type(shape, size):
    mask = np.random.RandomState(0).randint(0, 2, shape).astype(np.uint8)
    for values in (mask, mask.astype(bool), mask.astype(np.int64)):
        resized = ResizeShortSide(size)({"img": image(*shape), "gt_seg_map": values})["gt_seg_map"]
        expected = Image.fromarray(mask).resize(resized.shape[::-1], Image.Resampling.NEAREST)
        assert resized.dtype == values.dtype and np.array_equal(resized, expected)


@pytest.mark.parametrize("shape, size", [((90, 120), 30), ((20, 30), 60)])
def test_keypoints_boxes_and_heads_follow_the_image(shape, size):
    """A bright square around a keypoint has its center of mass at the keypoint, before and after."""
    img = np.zeros((*shape, 3), np.uint8)
    top, left = shape[0] // 2, shape[1] // 2
    img[top - 4 : top + 5, left - 4 : left + 5] = 255
    results = {
        "img": img,
        "keypoints": np.array([[[left, top], [0, 0]]], np.float32),
        "keypoints_visible": np.ones((1, 2), np.float32),
        "bbox": np.array([[left - 4, top - 4, left + 5, top + 5]], np.float32),
        "head_size": np.array([9.0]),
    }
    results = CenterCrop(size)(ResizeShortSide(size)(results))
    light = results["img"][..., 0].astype(float)
    rows, columns = np.indices(light.shape)
    center = [(light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()]
    assert np.allclose(results["keypoints"][0, 0], center, atol=0.05)
    box = results["bbox"][0]
    # Box edges are half a pixel outside the centers of the first and last pixel.
    assert np.allclose([(box[0] + box[2]) / 2 - 0.5, (box[1] + box[3]) / 2 - 0.5], center, atol=0.05)
    scale = size / min(shape)
    assert np.allclose(box[2:] - box[:2], 9 * scale, rtol=0.02) and np.allclose(results["head_size"], 9 * scale)
    assert results["keypoints_visible"].tolist() == [[1, 0]], "the corner of a wide image is cropped away"
    assert results["keypoints"].dtype == results["bbox"].dtype == np.float32


def test_restoration_targets_are_moved_with_the_image():
    results = CenterCrop(16)(ResizeShortSide(16)({"img": image(40, 60), "gt_img": image(40, 60)}))
    assert np.array_equal(results["img"], results["gt_img"])
    with pytest.raises(ValueError, match=r"x\.png differ.*'img': \(40, 60\), 'gt_img': \(40, 61\)"):
        ResizeShortSide(16)({"img": image(40, 60), "gt_img": image(40, 61), "img_path": "x.png"})


def test_frames_of_a_clip_are_resized_as_images_are():
    frames = np.stack([image(40, 60, seed) for seed in range(3)])
    results = CenterCrop((16, 20))(ResizeShortSide(16)({"frames": frames}))
    alone = [CenterCrop((16, 20))(ResizeShortSide(16)({"img": frame}))["img"] for frame in frames]
    assert np.array_equal(results["frames"], alone) and results["img_shape"] == (16, 20)


def test_instance_maps_and_areas_follow_the_image():
    """From 40 x 60 to 20 x 30 every second pixel stays, the one right and below of the middle; areas are a quarter."""
    instances = np.arange(2400, dtype=np.int32).reshape(40, 60)
    results = ResizeShortSide(20)({"img": image(40, 60), "gt_instance_map": instances, "area": np.array([100.0])})
    assert np.array_equal(results["gt_instance_map"], instances[1::2, 1::2]) and results["area"].tolist() == [25]
    results = CenterCrop((20, 10))(results)
    assert np.array_equal(results["gt_instance_map"], instances[1::2, 21:41:2]) and results["area"].tolist() == [25]


def test_nobody_is_no_special_case():
    people = {"keypoints": np.zeros((0, 17, 2)), "keypoints_visible": np.zeros((0, 17)), "bbox": np.zeros((0, 4))}
    results = CenterCrop(16)(ResizeShortSide(16)({"img": image(40, 60)} | people))
    assert {key: results[key].shape for key in people} == {key: value.shape for key, value in people.items()}
    with pytest.raises(ValueError, match=r"keypoints of x\.png have shape \(0,\), expected N x 17 x 2"):
        CenterCrop(16)({"img": image(40, 60), "keypoints": np.zeros(0), "img_path": "x.png"})


def test_sizes_that_cannot_be_cropped_are_named():
    with pytest.raises(ValueError, match=r"32x32 .* got x\.png with 20x40: put ResizeShortSide"):
        CenterCrop(32)({"img": image(20, 40), "img_path": "x.png"})
    with pytest.raises(ValueError, match="CenterCrop needs 'img' in the results"):
        CenterCrop(32)({})
    with pytest.raises(ValueError, match="size must be at least 1, got "):
        CenterCrop((0, 5))
    with pytest.raises(ValueError, match="size must be at least 1, got "):
        ResizeShortSide(0)


def test_draw_label_keeps_the_annotation():
    mask = np.eye(8, dtype=np.uint8)
    results = DrawLabel(MaskDrawer())({"img": image(8, 8), "gt_seg_map": mask})
    assert results["annotation"] is mask and np.array_equal(results["label"][..., 2], mask * 255)
    with pytest.raises(ValueError, match=r"MaskDrawer drew a label of shape \(8, 8, 3\) for sample 4"):
        DrawLabel(MaskDrawer())({"img": image(9, 8), "gt_seg_map": mask, "sample_idx": 4})


def test_pack_clip_stacks_images_in_the_order_of_the_clip():
    results = {
        "img": image(8, 12),
        "label": image(8, 12, 1),
        "task": "seg",
        "sample_idx": 3,
        "img_path": "x",
        "other": 1,
    }
    packed = PackClip(factor=4)(results)
    assert packed["inputs"].dtype == torch.uint8 and packed["inputs"].shape == (2, 3, 8, 12)
    assert np.array_equal(packed["inputs"][1].permute(1, 2, 0), image(8, 12, 1))
    assert packed["data_samples"].metainfo == {"task": "seg", "sample_idx": 3, "img_path": "x"}
    video = PackClip(keys="frames")({"frames": np.stack([image(8, 8, i) for i in range(5)])})
    assert video["inputs"].shape == (5, 3, 8, 8)


def test_pack_clip_refuses_what_cannot_be_tokenized():
    with pytest.raises(ValueError, match=r"x\.png has images of 8x12 .*factor 16 does not divide"):
        PackClip(factor=16)({"img": image(8, 12), "label": image(8, 12), "img_path": "x.png"})
    with pytest.raises(ValueError, match="needs 'label'"):
        PackClip()({"img": image(8, 8)})
    with pytest.raises(ValueError, match="differ in height x width"):
        PackClip()({"img": image(8, 8), "label": image(8, 4)})
    with pytest.raises(ValueError, match=r"of sample \(no name\) is float64 of shape"):
        PackClip(keys="img")({"img": np.zeros((8, 8, 3))})


def test_vqgan_tokenize_and_pack_tokens(tokenizer):
    levels = np.array([[0, 3], [15, 7]], np.uint8)
    img = np.repeat(np.kron(levels * 17, np.ones((4, 4), np.uint8))[..., None], 3, -1)
    results = VQGANTokenize(tokenizer)({"img": img, "label": img[::-1], "task": "seg"})
    assert results["tokens"].dtype == np.int64 and results["grid"] == (2, 2)
    assert results["tokens"].tolist() == [[0, 3, 15, 7], [15, 7, 0, 3]]
    packed = PackTokens()(results)
    assert packed["inputs"].tolist() == [0, 3, 15, 7, 15, 7, 0, 3] and packed["data_samples"].task == "seg"
    with pytest.raises(ValueError, match="use VQGANTokenize"):
        PackTokens()({})


def test_letterbox_shows_all_and_leaves_what_is_around_out_of_scores():
    keypoints = np.tile([[0.0, 0.0], [59.0, 29.0]], (1, 9, 1))[:, :17]
    results = dict(img=np.full((30, 60, 3), 7, np.uint8), gt_seg_map=np.ones((30, 60), bool))
    results |= dict(keypoints=keypoints, keypoints_visible=np.ones((1, 17)), bbox=np.array([[0.0, 0, 60, 30]]))
    results = Letterbox(20)(results)
    assert (results["img"][5:15] == 7).all() and not results["img"][:5].any() and not results["img"][15:].any()
    assert (results["gt_seg_map"][5:15] == 1).all() and (results["gt_seg_map"][[4, 15]] == 255).all()
    assert results["keypoints_visible"].all() and results["bbox"].tolist() == [[0, 5, 20, 15]]
    # A third: the center of pixel 0 comes to (0 + 0.5) / 3 - 0.5, and 5 lower.
    assert np.allclose(results["keypoints"][0, 0], [-1 / 3, 5 - 1 / 3])
    assert results["crop_offset"] == (0, -5) and results["img_shape"] == (20, 20)
    tall = Letterbox(20)(dict(img=np.full((626, 417, 3), 7, np.uint8)))
    assert (tall["img"][[0, -1], 10] == 7).all(), "head and feet"


def test_the_annotation_is_kept_before_the_image_moves():
    keep, results = KeepAnnotation(dict(type="ForegroundMaskCodec")), dict(img=np.zeros((8, 8, 3), np.uint8))
    results["gt_seg_map"] = np.eye(8, dtype=np.uint8)
    moved = ResizeShortSide(4)(keep(results))
    assert np.array_equal(moved["ori_annotation"], np.eye(8)) and moved["gt_seg_map"].shape == (4, 4)
    with pytest.raises(ValueError, match="KeepAnnotation comes after a transform that moved"):
        keep(moved)
