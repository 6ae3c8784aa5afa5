"""Tiles of images of odd sizes are put together again: labels, masks, people, images, and their scores."""

import numpy as np
import pytest
from mmengine.dataset import Compose

from delvm_mm.codecs import BoxCodec, ForegroundMaskCodec, RandomColorMaskCodec, SemanticMaskCodec
from delvm_mm.datasets import CropTile, DrawLabel, KeepAnnotation
from delvm_mm.datasets.transforms.geometry import resize
from delvm_mm.evaluation import VisionPromptEvaluator
from delvm_mm.evaluation.tiles import join_tiles

SHAPE = (37, 53)


def enlarge(results):
    """Three times as large, whatever the size."""
    height, width = results["img"].shape[:2]
    resize(results, 3 * height, 3 * width)
    return results


def tiles_of(fields, grid=(2, 3), steps=(), before=()):
    """Results dicts of all tiles of an image of ``SHAPE``."""
    return [
        Compose([*before, CropTile(grid, overlap=0.25), *steps])(
            dict(
                fields,
                img=np.zeros((*SHAPE, 3), np.uint8),
                img_channel_order="rgb",
                view=view,
                sample_idx=view,
                ori_shape=SHAPE,
            )
        )
        for view in range(grid[0] * grid[1])
    ]


def join(tiles, predictions):
    return join_tiles(
        predictions,
        [tile.get("affine", np.eye(2, 3)) for tile in tiles],
        [tile["tile"]["box"] for tile in tiles],
        SHAPE,
    )


@pytest.mark.parametrize("steps", [(), (enlarge,)], ids=["as they are", "enlarged"])
def test_label_maps_come_back_exactly(steps):
    labels = np.random.default_rng(0).integers(0, 5, SHAPE).astype(np.uint8)
    tiles = tiles_of(dict(gt_seg_map=labels), steps=steps)
    joined = join(tiles, [tile["gt_seg_map"] for tile in tiles])
    np.testing.assert_array_equal(joined, labels)
    assert joined.dtype == np.uint8


def test_a_pixel_has_the_label_of_the_tile_in_which_it_lies_deepest():
    tiles = tiles_of({}, grid=(1, 2))
    # 53 columns in two tiles with a quarter of overlap: 0 to 30 and 23 to 53, which meet in the middle.
    assert [tile["tile"]["box"] for tile in tiles] == [(0, 0, 30, 37), (23, 0, 53, 37)]
    joined = join(tiles, [np.full((37, 30), value, np.uint8) for value in (1, 2)])
    assert (joined[:, :26] == 1).all() and (joined[:, 27:] == 2).all()


def test_masks_that_several_tiles_show_are_one():
    rng = np.random.default_rng(1)
    for _ in range(20):
        instances = np.zeros(SHAPE, np.int32)
        for number in range(4):
            left = rng.integers(0, 40)
            instances[9 * number : 9 * number + rng.integers(3, 10), left : left + rng.integers(6, 50)] = number + 1
        tiles = tiles_of(dict(gt_instance_map=instances), grid=(2, 2))
        # Each tile numbers its masks anew.
        predictions = []
        for tile in tiles:
            numbers = np.zeros(5, np.int32)
            numbers[rng.permutation(4) + 1] = np.arange(1, 5)
            predictions.append(dict(instance_map=numbers[tile["gt_instance_map"]]))
        joined = join(tiles, predictions)["instance_map"]
        pairs = {(int(a), int(b)) for a, b in zip(instances.ravel(), joined.ravel(), strict=True)}
        assert (0, 0) in pairs
        assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs), "the same masks"
        areas = np.bincount(joined.ravel())[1:]
        assert (np.diff(areas) <= 0).all(), "the largest first"


def test_people_on_a_seam_are_one_with_all_their_keypoints():
    rng = np.random.default_rng(2)
    people = np.stack([rng.uniform((2, 2), (50, 34), (17, 2)), rng.uniform((2, 2), (20, 20), (17, 2))])
    fields = dict(keypoints=people.astype(np.float32), keypoints_visible=np.ones((2, 17), np.float32))
    tiles = tiles_of(fields, grid=(2, 2), steps=(enlarge,))
    predictions = []
    for tile in tiles:
        seen = tile["keypoints_visible"]
        predictions.append(dict(keypoints=tile["keypoints"], keypoint_scores=seen, keypoints_visible=seen))
    joined = join(tiles, predictions)
    assert joined["img_shape"] == SHAPE and (joined["keypoint_scores"] == 1).all()
    order = np.argsort(-np.ptp(joined["keypoints"][..., 0], axis=1))
    np.testing.assert_allclose(joined["keypoints"][order], people, atol=1e-3)


def test_images_are_blended():
    image = np.random.default_rng(3).integers(0, 256, (*SHAPE, 3), np.uint8)
    tiles = tiles_of({}, grid=(3, 2))
    parts = []
    for tile in tiles:
        left, top, right, lower = tile["tile"]["box"]
        parts.append(image[top:lower, left:right])
    np.testing.assert_array_equal(join(tiles, parts), image)
    dark, bright = tiles_of({}, grid=(1, 2))
    steps = join([dark, bright], [np.full((37, 30, 3), value, np.uint8) for value in (0, 100)])[0, :, 0].astype(int)
    assert steps[0] == 0 and steps[-1] == 100 and (np.diff(steps) >= 0).all() and np.diff(steps).max() < 40


def evaluate(codec, metric, truth, key, drawn, **arguments):
    """Score drawings of tiles, three times as large; ``drawn`` is what is drawn instead of the truth."""
    before = [KeepAnnotation(codec)]
    answers = tiles_of({key: drawn}, steps=(enlarge, DrawLabel(codec)), before=before)
    tiles = tiles_of({key: truth}, steps=(enlarge, DrawLabel(codec)), before=before)
    evaluator = VisionPromptEvaluator(codec, metric, ceiling=True, original=True, **arguments)
    for tile, answer in zip(tiles, answers, strict=True):
        evaluator.process([{**tile, "pred_image": answer["label"], "ceiling_image": tile["label"]}])
    return evaluator.evaluate(len(tiles)), evaluator, tiles


def test_classes_are_scored_on_the_whole_image():
    pytest.importorskip("mmseg")
    truth, drawn = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    truth[:, 20:40], drawn[:, 25:40] = 1, 1
    codec = SemanticMaskCodec(("a", "b"))
    result, evaluator, tiles = evaluate(codec, dict(type="mmseg.IoUMetric"), truth, "gt_seg_map", drawn)
    assert result["mIoU"] == pytest.approx(100 * (33 / 38 + 15 / 20) / 2, abs=0.01)
    assert result["ceiling/mIoU"] == 100
    evaluator.process([{**tiles[2], "pred_image": tiles[2]["label"], "ceiling_image": tiles[2]["label"]}])
    with pytest.raises(ValueError, match=r"1 of the 6 tiles of .* were answered: expected all"):
        evaluator.evaluate(1)


def test_instances_are_scored_on_the_whole_image():
    truth = np.zeros(SHAPE, np.uint8)
    truth[5:30, 10:45], truth[32:36, 2:9] = 1, 2
    drawn = np.where(truth == 1, truth, 0)
    codec = RandomColorMaskCodec()
    result, _, _ = evaluate(codec, dict(type="InstanceMetric"), truth, "gt_instance_map", drawn, trivial=False)
    assert result["instances/AR"] == pytest.approx(1 / 2)
    assert result["ceiling/instances/AR"] == 1


def test_a_box_that_several_tiles_show_is_one():
    codec, box = BoxCodec(), np.array([[5, 4, 45, 30]])
    mask = codec.decode(codec.encode(dict(bboxes=box, img_shape=SHAPE)))["foreground"]
    tiles = tiles_of(dict(gt_seg_map=mask))
    predictions = [codec.decode(codec.mask_codec.encode(tile["gt_seg_map"])) for tile in tiles]
    assert len({str(prediction["bboxes"]) for prediction in predictions}) > 1, "each sees its own part"
    joined = join(tiles, predictions)
    assert joined["bboxes"].tolist() == box.tolist() and joined["img_shape"] == SHAPE
    np.testing.assert_array_equal(joined["foreground"], mask)


def test_without_original_every_tile_is_an_image():
    pytest.importorskip("mmseg")
    codec = ForegroundMaskCodec()
    tiles = tiles_of(dict(gt_seg_map=np.ones(SHAPE, np.uint8)), steps=(DrawLabel(codec),))
    evaluator = VisionPromptEvaluator(codec, dict(type="mmseg.IoUMetric"), ceiling=False)
    evaluator.process([{**tile, "pred_image": tile["label"]} for tile in tiles])
    assert len(evaluator.metrics[0].results) == 6
