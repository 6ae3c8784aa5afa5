"""SemanticMaskCodec: maps of classes drawn and read back, clean and degraded, and mmseg's score over all classes."""

import cv2
import numpy as np
import pytest

from delvm_mm.codecs import SemanticMaskCodec
from delvm_mm.evaluation import VisionPromptEvaluator
from helpers.poses import noisy

CLASSES = ("ground", "sky", "tree", "car", "cat", "dog", "sign", "wall")


def random_map(rng, size=128, classes=8):
    labels = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(4, 9)):
        center, axes = rng.integers(0, size, 2), rng.integers(size // 8, size // 3, 2)
        label = int(rng.integers(0, classes))
        if rng.random() < 0.5:
            cv2.ellipse(labels, center.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, label, -1)
        else:
            cv2.rectangle(labels, center.tolist(), (center + axes).tolist(), label, -1)
    return labels


def blurred(image, rng):
    return cv2.GaussianBlur(image, (0, 0), 1)


def as_jpeg(image, rng):
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def mean_iou(pairs, classes=8):
    inside, either = np.zeros(classes), np.zeros(classes)
    for truth, read in pairs:
        for label in range(classes):
            inside[label] += ((truth == label) & (read == label)).sum()
            either[label] += ((truth == label) | (read == label)).sum()
    return np.mean(inside[either > 0] / either[either > 0])


def test_clean_maps_come_back_exactly_with_ignored_pixels_and_single_ones():
    codec, rng = SemanticMaskCodec(CLASSES), np.random.default_rng(0)
    for _ in range(200):
        labels = random_map(rng, 64)
        labels[rng.integers(0, 64), rng.integers(0, 64)] = 5
        image = codec.encode(labels)
        assert image.dtype == np.uint8 and image.shape == (64, 64, 3)
        np.testing.assert_array_equal(codec.decode(image), labels)
    marked = SemanticMaskCodec(CLASSES, ignore_color=(10, 20, 30))
    labels[:5] = 255
    image = marked.encode(labels)
    assert image[0, 0].tolist() == [10, 20, 30]
    np.testing.assert_array_equal(marked.decode(image)[5:], labels[5:])


@pytest.mark.parametrize(("degrade", "least"), [(noisy, 0.95), (blurred, 0.85), (as_jpeg, 0.85)])
def test_degraded_maps_keep_their_classes(degrade, least):
    codec, rng = SemanticMaskCodec(CLASSES), np.random.default_rng(1)
    pairs = []
    for _ in range(200):
        labels = random_map(rng)
        pairs.append((labels, codec.decode(degrade(codec.encode(labels), rng))))
    assert mean_iou(pairs) > least


def test_a_border_is_no_third_class():
    """Between red and blue lies purple, which is a class too."""
    codec = SemanticMaskCodec(("a", "b", "c"), palette=[(255, 0, 0), (0, 0, 255), (128, 0, 128)])
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 20:] = 1
    read = codec.decode(cv2.GaussianBlur(codec.encode(labels), (0, 0), 1.0))
    assert not (read == 2).any() and (read == labels).mean() > 0.97


def test_mmseg_scores_all_classes_and_leaves_ignored_pixels_out():
    pytest.importorskip("mmseg")
    codec = SemanticMaskCodec(("a", "b", "c"), ignore_index=9)
    truth = np.array([[0] * 8, [1] * 8, [2] * 8, [9] * 8]).repeat(2, 0)
    drawn = np.array([[0] * 8, [1] * 8, [1] * 8, [2] * 8]).repeat(2, 0)
    evaluator = VisionPromptEvaluator(codec, dict(type="mmseg.IoUMetric"), ceiling=False)
    evaluator.process([dict(annotation=truth, pred_image=codec.encode(drawn))])
    result = evaluator.evaluate(1)
    # a: 1; b: 1 of 2 rows; c: none of one row
    assert result["mIoU"] == pytest.approx(100 * (1 + 1 / 2 + 0) / 3, abs=0.01)
    assert evaluator.dataset_meta["classes"] == ("a", "b", "c")


def test_the_mean_of_labels_is_the_class_that_most_have():
    codec = SemanticMaskCodec(CLASSES)
    images = np.stack([codec.encode(np.full((4, 4), label, np.uint8)) for label in (3, 5, 5)])
    assert (codec.decode_mean(images) == 5).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(classes=()), "classes is empty"),
        (dict(classes=("a", "a")), "classes has 'a' twice"),
        (dict(classes=("a", "b"), palette=[(1, 2, 3)]), "palette has 1 colors for 2 classes"),
        (
            dict(classes=("road", "car", "bus"), palette=[(1, 2, 3), (9, 9, 9), (1, 2, 3)]),
            r"palette gives \(1, 2, 3\) to both 'road' and 'bus', expected a color of its own",
        ),
        (dict(classes=("a", "b"), palette=[(1, 2, 3), (0, 0, 256)]), "palette is .* expected three integers in 0..255"),
        (dict(classes=("a", "b"), ignore_index=1), "ignore_index is 1, the label of 'b'"),
        (dict(classes=[str(number) for number in range(64)]), "64 classes and 63 colors"),
        (dict(classes=("a", "b"), min_area=0), "min_area is 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SemanticMaskCodec(**arguments)


def test_wrong_maps_are_refused():
    codec = SemanticMaskCodec(("a", "b"))
    good = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"the map holds 7, expected 0 to 1 and 255 \(ignore_index\)"):
        codec.encode(good + 7)
    with pytest.raises(TypeError, match="float64"):
        codec.encode(good * 1.0)
    with pytest.raises(ValueError, match="expected a map H x W"):
        codec.encode(good[None])
    with pytest.raises(ValueError, match=r"the truth is \(4, 4\), the prediction \(2, 4\); resize the prediction"):
        codec.to_fields(good, good[:2])
    with pytest.raises(ValueError, match="the prediction holds 0 to 2, expected 0 to 1"):
        codec.to_fields(good, good + np.eye(4, dtype=int) * 2)
    with pytest.raises(ValueError, match="'gt_seg_map'"):
        codec.annotation_of(dict(img=good))
