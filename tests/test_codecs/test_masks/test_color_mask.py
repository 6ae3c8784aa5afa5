"""RandomColorMaskCodec: drawing, reading back, seeds, and the fields of metrics."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from delvm_mm.codecs.masks.color_mask import COLORS, RandomColorMaskCodec
from delvm_mm.codecs.masks.instance_map import instance_map
from delvm_mm.registry import TASK_UTILS


def blobs(rng, count=30, size=256):
    """An instance map of smooth shapes, many small and few large, as in crops of SA-1B."""
    masks = []
    for _ in range(count):
        mask = np.zeros((size, size), np.uint8)
        radius = size * np.exp(rng.uniform(-4.2, -1.2))
        angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        wave = 1 + 0.25 * np.cos(2 * angles + rng.uniform(0, 6)) + 0.1 * np.cos(3 * angles + rng.uniform(0, 6))
        outline = rng.uniform(0, size, 2) + radius * (wave * [np.cos(angles), np.sin(angles)]).T
        cv2.fillPoly(mask, [outline.round().astype(np.int32)], 1)
        masks.append(mask > 0)
    return instance_map(np.stack(masks))


def ious(truth, found, min_area=1):
    """For each mask of the truth, its IoU with the best of those found."""
    scores = []
    for number in np.unique(truth[truth > 0]):
        mask = truth == number
        if mask.sum() >= min_area:
            others = np.unique(found[mask & (found > 0)])
            scores.append(max([(mask & (found == o)).sum() / (mask | (found == o)).sum() for o in others], default=0))
    return np.array(scores)


def assert_same_segmentation(one, other):
    """Equal up to the numbers of the masks."""
    np.testing.assert_array_equal(one == 0, other == 0)
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))


def test_colors_are_well_apart_from_each_other_and_from_black():
    colors = np.array([(0, 0, 0), *COLORS], float)
    distances = np.linalg.norm(colors[:, None] - colors, axis=-1) + 999 * np.eye(len(colors))
    assert len(COLORS) == 62
    # neighbors on the grid: two channels differ, by 63 or 64
    assert distances.min() == pytest.approx(np.hypot(63, 63))


def test_a_clean_drawing_comes_back_exactly_with_masks_of_any_size_and_shape():
    codec, rng = RandomColorMaskCodec(), np.random.default_rng(0)
    for _ in range(5):
        truth = blobs(rng)
        image = codec.encode(truth)
        assert (image.shape, image.dtype) == ((256, 256, 3), np.uint8)
        assert len(np.unique(image.reshape(-1, 3), axis=0)) == len(np.unique(truth))
        found = codec.decode(image)["instance_map"]
        assert found.dtype == np.int32
        assert_same_segmentation(truth, found)
        areas = np.bincount(found.ravel())[1:]
        assert (np.diff(areas) <= 0).all()  # numbered by area
    scattered = np.zeros((20, 20), int)
    scattered[2, 3] = scattered[9, 15] = 4  # one mask, two single pixels
    scattered[12:, :4] = 2
    assert_same_segmentation(scattered, codec.decode(codec.encode(scattered))["instance_map"])


def test_more_masks_than_colors_neither_wrap_round_nor_run_together():
    truth = np.kron(np.arange(1, 301).reshape(15, 20), np.ones((6, 5), int))
    codec = RandomColorMaskCodec()
    image = codec.encode(truth)
    assert {tuple(color) for color in image.reshape(-1, 3).tolist()} == set(COLORS)
    assert_same_segmentation(truth, codec.decode(image)["instance_map"])


def jpeg(quality):
    def degrade(image, rng):
        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]

    return degrade


def blurred(image, rng):
    return cv2.GaussianBlur(image, (0, 0), 1)


def noisy(image, rng):
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("degrade", "least"),
    [(jpeg(90), 0.95), (jpeg(75), 0.93), (blurred, 0.95), (noisy, 0.99)],
    ids=["jpeg 90", "jpeg 75", "blur", "noise"],
)
def test_a_degraded_drawing_keeps_its_masks(degrade, least):
    codec, rng = RandomColorMaskCodec(), np.random.default_rng(3)
    scores, drawn, found = [], 0, 0
    for sample in range(6):
        truth = blobs(rng)
        image = degrade(codec.encode(dict(instance_map=truth, seed=sample)), rng)
        prediction = codec.decode(np.ascontiguousarray(image))["instance_map"]
        scores.append(ious(truth, prediction, min_area=64))
        drawn, found = drawn + len(np.unique(truth)) - 1, found + prediction.max()
    assert np.mean(np.concatenate(scores)) > least
    # borders of mixed color are no masks
    assert found <= 1.02 * drawn


def test_a_speck_goes_to_the_mask_around_it():
    codec = RandomColorMaskCodec()
    truth = np.zeros((40, 40), int)
    truth[8:32, 8:32] = 1
    image = codec.encode(truth)
    image[18:20, 18:20] = np.clip(image[18:20, 18:20].astype(int) + 60, 0, 255)
    image[2, 5:9] = (90, 20, 20)
    assert_same_segmentation(truth, codec.decode(image)["instance_map"])


def test_connected_decides_whether_two_places_of_a_color_are_one_mask():
    image = np.zeros((10, 20, 3), np.uint8)
    image[2:8, 2:8] = image[2:8, 12:18] = COLORS[5]
    assert RandomColorMaskCodec().decode(image)["instance_map"].max() == 1
    assert RandomColorMaskCodec(connected=False).decode(image)["instance_map"].max() == 1
    assert RandomColorMaskCodec(connected=True).decode(image)["instance_map"].max() == 2
    # With one color only it may have been used twice.
    assert RandomColorMaskCodec(colors=[COLORS[5]]).decode(image)["instance_map"].max() == 2


def test_a_black_image_has_no_masks_and_none_is_a_black_image():
    codec = RandomColorMaskCodec()
    image = codec.encode(np.zeros((4, 5), np.uint16))
    assert image.shape == (4, 5, 3)
    assert not image.any()
    assert not codec.decode(image)["instance_map"].any()
    assert not codec.encode(np.zeros((0, 4, 5), bool)).any()


def test_colors_follow_from_the_seeds():
    truth = np.arange(12).reshape(3, 4)

    def drawn(seed, sample, state=0):
        np.random.seed(state)
        codec = RandomColorMaskCodec(seed=seed)
        annotation = codec.annotation_of({"gt_instance_map": truth, "sample_idx": sample})
        image = codec.encode(annotation)
        # A drawing of the same annotation is the same, whenever and by whichever codec of that seed.
        np.testing.assert_array_equal(image, RandomColorMaskCodec(seed=seed).encode(annotation))
        return image.tobytes()

    assert drawn(0, 7) == drawn(0, 7, state=1)
    assert drawn(0, 7) != drawn(0, 8)
    assert drawn(0, 7) != drawn(1, 7)
    assert drawn(None, 7) == drawn(None, 7)
    assert drawn(None, 7) != drawn(None, 7, state=1)


def test_all_forms_of_annotation_are_drawn_alike():
    masks = np.zeros((3, 6, 9), bool)
    masks[0, 1:3, 1:3] = masks[1, :, :7] = masks[2, 2:5, 2:9] = True
    rles = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    codec = RandomColorMaskCodec(seed=4)
    expected = codec.encode(instance_map(masks))
    # the largest lies below, the smallest on top: the first mask is seen whole
    assert len(np.unique(expected[1:3, 1:3].reshape(-1, 3), axis=0)) == 1
    for form in (masks, rles, [{"segmentation": rle, "area": 1} for rle in rles], dict(instance_map=masks)):
        np.testing.assert_array_equal(codec.encode(form), expected)
    for dtype in (np.int16, np.uint64, np.int64):
        np.testing.assert_array_equal(codec.encode(instance_map(masks).astype(dtype)), expected)
    large = instance_map(masks).astype(np.int64) * 2**40
    np.testing.assert_array_equal(codec.encode(large), expected)


def test_fields_hold_maps_and_instances():
    codec = RandomColorMaskCodec()
    truth = np.zeros((20, 30), np.uint16)
    truth[2:10, 3:15] = 5
    truth[12:18, 20:26] = 9
    fields = codec.to_fields(dict(instance_map=truth, seed=1), codec.decode(codec.encode(truth)))
    np.testing.assert_array_equal(fields["gt_instance_map"]["data"], truth)
    assert_same_segmentation(fields["pred_instance_map"]["data"], truth)
    for name in ("pred_instances", "gt_instances"):
        instances = fields[name]
        assert instances["masks"].sum((1, 2)).tolist() == [96, 36]
        assert instances["bboxes"].tolist() == [[3, 2, 15, 10], [20, 12, 26, 18]]
        assert instances["labels"].tolist() == [0, 0]
    assert fields["pred_instances"]["scores"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="resize the prediction"):
        codec.to_fields(truth, dict(instance_map=np.zeros((3, 3), int)))


@pytest.mark.parametrize(
    ("annotation", "error", "message"),
    [
        (np.zeros((3, 3)), TypeError, "float64"),
        (np.zeros((3, 3, 3), int), ValueError, "expected H x W"),
        (np.zeros((0, 3), int), ValueError, "expected H x W"),
        (np.full((3, 3), -1), ValueError, "-1"),
        ([dict(size=[2, 2], counts=[3])], ValueError, "mask 0"),
        ([], ValueError, "no masks"),
        (dict(seed=1), ValueError, "instance_map"),
        ("mask", TypeError, "str"),
    ],
)
def test_what_is_no_annotation_is_refused(annotation, error, message):
    with pytest.raises(error, match=message):
        RandomColorMaskCodec().encode(annotation)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(seed=-1), "seed is -1"),
        (dict(seed="a"), "seed is 'a'"),
        (dict(colors=[]), "colors is empty"),
        (dict(colors=[(0, 0, 300)]), "colors is"),
        (dict(colors=[(10, 10, 10)]), "17 apart"),
        (dict(colors=[(200, 0, 0), (200, 0, 0)]), "0 apart"),
        (dict(min_area=0), "min_area is 0"),
        (dict(connected=1), "connected is 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomColorMaskCodec(**arguments)


def test_the_registry_builds_it_from_a_config():
    codec = TASK_UTILS.build(dict(type="RandomColorMaskCodec", colors=[(255, 0, 0)]))
    assert codec.palette == ((0, 0, 0), (255, 0, 0))
    with pytest.raises(ValueError, match="gt_instance_map"):
        codec.annotation_of({"img": None})
