"""What was read from a model's image comes back to the image that it was made of."""

import numpy as np
import pytest

from delvm_mm.codecs import BoxCodec
from delvm_mm.codecs.mapping import map_boxes_back, map_image_back, map_points_back, map_prediction_back
from delvm_mm.datasets.transforms.geometry import crop, flip, resize, warp


def moved(*steps, shape=(24, 36)):
    """Results of an image whose colors say where a pixel is, after some transforms."""
    rows, columns = np.indices(shape)
    image = np.stack([5 * rows, 5 * columns, np.full(shape, 50)], -1).astype(np.uint8)
    results = dict(img=image, gt_seg_map=(columns // 6 + 1).astype(np.uint8), keypoints=np.full((1, 17, 2), 9.0))
    before = {key: value.copy() for key, value in results.items()}
    for step, arguments in steps:
        step(results, *arguments)
    return before, results


STEPS = {
    "resized": [(resize, (48, 72))],
    "cut out": [(crop, (4, 6, 12, 18)), (resize, (24, 36))],
    "padded": [(resize, (12, 18)), (crop, (-3, 0, 18, 18))],
    "mirrored": [(flip, (True, False)), (resize, (48, 72)), (crop, (0, 12, 40, 40))],
    "turned": [(warp, (np.array([[0.0, -1, 29], [1, 0, -6]]),))],
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_points_and_maps_come_back_through_every_transform(steps):
    before, after = moved(*steps)
    seen = after["gt_seg_map"] > 0
    back = map_image_back(after["gt_seg_map"], after["affine"], (24, 36))
    inside = map_image_back(seen, after["affine"], (24, 36))
    assert inside.dtype == bool and inside.sum() > 100
    assert (back[inside] == before["gt_seg_map"][inside]).mean() > 0.97
    if "flip" not in str(steps):
        assert np.allclose(map_points_back(after["keypoints"], after["affine"]), before["keypoints"], atol=1e-4)
    image = map_image_back(after["img"], after["affine"], (24, 36)).astype(int)
    core = inside & np.roll(inside, 2, 0) & np.roll(inside, -2, 0) & np.roll(inside, 2, 1) & np.roll(inside, -2, 1)
    assert np.abs(image - before["img"])[core].mean() < 2


@pytest.mark.parametrize("steps", [*STEPS.values()], ids=STEPS)
def test_boxes_come_back_through_every_transform(steps):
    """Of a filled rectangle: what is seen of it, to a pixel of the smaller image."""
    codec, box = BoxCodec(), np.array([[8, 6, 20, 15]], np.float32)
    results = dict(img=codec.encode(dict(bboxes=box, img_shape=(24, 36))))
    for step, arguments in steps:
        step(results, *arguments)
    read = codec.decode(results["img"])
    mapped = map_prediction_back(read, results["affine"], (24, 36))
    assert mapped["img_shape"] == mapped["foreground"].shape == (24, 36) and mapped["foreground"].any()
    seen = np.argwhere(mapped["foreground"])
    expected = [*seen.min(0)[::-1], *(seen.max(0)[::-1] + 1)]
    np.testing.assert_allclose(mapped["bboxes"], [expected], atol=2.1)
    if "crop" not in str(steps):
        np.testing.assert_allclose(mapped["bboxes"], box, atol=1.1)


def test_boxes_are_cut_at_the_edges_of_the_original():
    affine = np.array([[2.0, 0, 4.5], [0, 2, 0.5]])  # twice as large, two pixels of the original beside it on the left
    boxes = np.array([[0, 0, 8, 8], [0, 2, 4, 6], [6, 2, 10, 6]])
    assert map_boxes_back(boxes, affine, (4, 4)).tolist() == [[0, 0, 2, 4], [1, 1, 3, 3]]


def test_what_was_not_seen_is_zero():
    _, after = moved((crop, (4, 6, 12, 18)))
    back = map_image_back(np.ones((12, 18), np.int32), after["affine"], (24, 36))
    expected = np.zeros((24, 36), np.int32)
    expected[4:16, 6:24] = 1
    assert np.array_equal(back, expected) and back.dtype == np.int32


def test_predictions_of_codecs_are_mapped_by_their_kind():
    affine = np.array([[2.0, 0, 0.5], [0, 2, 0.5]])  # twice as large, pixel centers considered
    people = dict(keypoints=np.full((1, 17, 2), 4.5), keypoint_scores=np.ones((1, 17)), img_shape=(8, 8))
    mapped = map_prediction_back(people, affine, (4, 4))
    assert (mapped["keypoints"] == 2).all() and mapped["img_shape"] == (4, 4) and people["img_shape"] == (8, 8)
    instances = np.arange(4, dtype=np.int32).repeat(2)[None].repeat(8, 0)
    assert map_prediction_back(dict(instance_map=instances), affine, (4, 4))["instance_map"][0].tolist() == [0, 1, 2, 3]
