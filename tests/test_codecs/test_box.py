"""Boxes drawn and read back, clean and degraded."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from delvm_mm.codecs import BoxCodec

SIZE = 128


def annotation(*boxes, shape=(SIZE, SIZE)):
    return dict(bboxes=np.array(boxes, np.float32).reshape(-1, 4), img_shape=shape)


def random_boxes(number, least):
    random = np.random.default_rng(0)
    for _ in range(number):
        (x1, y1), (width, height) = random.uniform(0, SIZE - least, 2), random.uniform(least, SIZE, 2)
        yield np.array([x1, y1, min(x1 + width, SIZE), min(y1 + height, SIZE)])


def iou(first, second):
    def area(box):
        return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)

    shared = area(np.concatenate([np.maximum(first, second)[:2], np.minimum(first, second)[2:]]))
    return shared / (area(first) + area(second) - shared)


def blur(image):
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=50)
    return np.array(Image.open(file))


def noise(image):
    return np.clip(image + np.random.default_rng(0).normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def test_a_box_comes_back_to_half_a_pixel():
    codec = BoxCodec()
    for box in random_boxes(200, 2):
        (read,) = codec.decode(codec.encode(annotation(box)))["bboxes"]
        assert np.abs(read - box).max() <= 0.5


@pytest.mark.parametrize("degrade", [blur, jpeg, noise])
@pytest.mark.parametrize("colors", [{}, dict(foreground=(255, 0, 0), background=(0, 0, 255))])
def test_a_degraded_box_comes_back(degrade, colors):
    codec = BoxCodec(**colors)
    for box in random_boxes(100, 24):
        (read,) = codec.decode(degrade(codec.encode(annotation(box))))["bboxes"]
        assert iou(read, box) > 0.9


def test_the_largest_region_is_read_and_touching_corners_are_one():
    codec = BoxCodec()
    drawn = codec.encode(annotation([2, 2, 10, 10], [30, 40, 60, 90]))
    assert codec.decode(drawn)["bboxes"].tolist() == [[30, 40, 60, 90]]
    assert codec.decode(codec.encode(annotation([2, 2, 10, 10], [10, 10, 20, 20])))["bboxes"].tolist() == [
        [2, 2, 20, 20]
    ]
    assert codec.decode(np.zeros((9, 9, 3), np.uint8))["bboxes"].shape == (0, 4)
    assert codec.encode(annotation([3.1, 3.1, 3.4, 3.4])).any(), "a box below a pixel is drawn as one"


def test_fields_are_boxes_and_filled_boxes():
    codec = BoxCodec()
    fields = codec.to_fields(annotation([1, 2, 4, 6], shape=(8, 9)), annotation([1, 2, 3, 6], shape=(8, 9)))
    assert fields["gt_sem_seg"]["data"].shape == (1, 8, 9) and fields["gt_sem_seg"]["data"].sum() == 12
    assert fields["pred_sem_seg"]["data"].sum() == 8 and fields["pred_instances"]["bboxes"].tolist() == [[1, 2, 3, 6]]
    with pytest.raises(ValueError, match=r"image of \(8, 9\), the prediction of one of \(128, 128\)"):
        codec.to_fields(annotation([1, 2, 4, 6], shape=(8, 9)), annotation([1, 2, 3, 6]))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([[1, 2, 3, 4]], TypeError, "got a list, expected dict"),
        (dict(bboxes=np.zeros((1, 4))), ValueError, "img_shape is missing"),
        (annotation([5, 5, 5, 9]), ValueError, "x1 < x2"),
        (annotation([5, 5, np.nan, 9]), ValueError, "N x 4 finite numbers"),
        (dict(bboxes=np.array([["a"] * 4]), img_shape=(4, 4)), TypeError, "expected numbers"),
    ],
)
def test_bad_annotations_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        BoxCodec().encode(given)


def test_annotation_of_results():
    results = dict(img=np.zeros((6, 7, 3), np.uint8), bbox=np.array([[1, 1, 3, 3]]))
    assert BoxCodec().annotation_of(results)["img_shape"] == (6, 7)
    with pytest.raises(ValueError, match="'bbox'"):
        BoxCodec().annotation_of(dict(img=results["img"]))
