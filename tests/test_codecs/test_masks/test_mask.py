"""ForegroundMaskCodec: drawing, reading, and the fields of mmseg.IoUMetric."""

import cv2
import numpy as np
import pytest

from delvm_mm.codecs import ForegroundMaskCodec
from delvm_mm.registry import TASK_UTILS

PALETTES = {
    "white on black": ((255, 255, 255), (0, 0, 0)),
    "black on white": ((0, 0, 0), (255, 255, 255)),
    "red on black": ((255, 0, 0), (0, 0, 0)),
    "purple on yellow": ((68, 1, 84), (253, 231, 37)),
}


def random_mask(rng, size=256):
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(1, 4)):
        center, axes = rng.integers(0.2 * size, 0.8 * size, 2), rng.integers(0.18 * size, 0.35 * size, 2)
        cv2.ellipse(mask, center.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
    return mask


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def blurred(image, rng):
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def as_jpeg(image, rng):
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]


def noisy(image, rng):
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("colors", PALETTES.values(), ids=PALETTES)
def test_a_clean_mask_comes_back_exactly(colors):
    codec, rng = ForegroundMaskCodec(*colors), np.random.default_rng(0)
    for _ in range(100):
        mask = random_mask(rng, 64)
        image = codec.encode(mask)
        assert image.dtype == np.uint8
        assert image.shape == (64, 64, 3)
        np.testing.assert_array_equal(codec.decode(image), mask)


@pytest.mark.parametrize("degrade", [blurred, as_jpeg, noisy])
@pytest.mark.parametrize("colors", PALETTES.values(), ids=PALETTES)
def test_a_degraded_mask_keeps_an_iou_of_95_percent(colors, degrade):
    codec, rng = ForegroundMaskCodec(*colors), np.random.default_rng(1)
    for _ in range(30):
        mask = random_mask(rng)
        assert iou(codec.decode(np.ascontiguousarray(degrade(codec.encode(mask), rng))), mask) > 0.95


def test_threshold_is_the_place_between_the_two_colors():
    gray = np.full((1, 2, 3), 100, np.uint8)
    gray[0, 1] = 50
    # 100 and 50 of 255 are 0.39 and 0.2 of the way from black to white
    assert ForegroundMaskCodec(threshold=0.3).decode(gray).tolist() == [[1, 0]]
    assert ForegroundMaskCodec(threshold=0.5).decode(gray).tolist() == [[0, 0]]
    assert ForegroundMaskCodec((0, 0, 0), (255, 255, 255), threshold=0.7).decode(gray).tolist() == [[0, 1]]


def test_ignored_pixels_are_drawn_as_background_and_stay_ignored_in_the_fields():
    codec = ForegroundMaskCodec(ignore_index=7)
    mask = np.array([[0, 1, 7], [255, 7, 0]])
    assert codec.encode(mask)[..., 0].tolist() == [[0, 255, 0], [255, 0, 0]]
    truth = codec.to_fields(mask, codec.decode(codec.encode(mask)))["gt_sem_seg"]["data"]
    assert truth.tolist() == [[[0, 1, 255], [1, 255, 0]]]


def test_bool_masks_and_the_results_key():
    codec = ForegroundMaskCodec()
    mask = np.array([[True, False]])
    assert codec.decode(codec.encode(codec.annotation_of({"gt_seg_map": mask}))).tolist() == [[1, 0]]
    with pytest.raises(ValueError, match="needs 'gt_seg_map' in the"):
        codec.annotation_of({"img": mask})


def test_iou_metric_reads_the_fields():
    mmseg_metrics = pytest.importorskip("mmseg.evaluation")
    torch = pytest.importorskip("torch")
    codec = ForegroundMaskCodec()
    truth = np.zeros((4, 4), np.uint8)
    truth[:2] = 1
    truth[3] = 255
    prediction = np.zeros((4, 4), np.uint8)
    prediction[0] = 1
    prediction[3] = 1  # not scored
    fields = codec.to_fields(truth, prediction)
    metric = mmseg_metrics.IoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = codec.dataset_meta
    metric.process({}, [{k: {"data": torch.from_numpy(v["data"])} for k, v in fields.items()}])
    # background: 4 of 8; foreground: 4 of 8
    assert metric.evaluate(1)["mIoU"] == pytest.approx(50.0)


def test_the_registry_builds_it_from_a_config():
    codec = TASK_UTILS.build(dict(type="ForegroundMaskCodec", foreground=(255, 0, 0)))
    assert codec.palette == ((0, 0, 0), (255, 0, 0))
    assert codec.background == (0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(foreground=(0, 0, 0)), ValueError, "different colors"),
        (dict(foreground=(256, 0, 0)), ValueError, "foreground"),
        (dict(background=(0.5, 0, 0)), ValueError, "background"),
        (dict(threshold=1.0), ValueError, "threshold"),
        (dict(threshold="half"), ValueError, "threshold"),
        (dict(ignore_index=0), ValueError, "ignore_index"),
        (dict(ignore_index=1.5), ValueError, "ignore_index"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ForegroundMaskCodec(**arguments)


def test_wrong_masks_and_images_are_refused():
    codec, mask = ForegroundMaskCodec(), np.zeros((4, 4), np.uint8)
    with pytest.raises(TypeError, match="float64"):
        codec.encode(np.zeros((4, 4)))
    with pytest.raises(TypeError, match="got list, expected a"):
        codec.encode([[0, 1]])
    with pytest.raises(ValueError, match=r"\(1, 4, 4\)"):
        codec.encode(mask[None])
    with pytest.raises(ValueError, match="expected an RGB image H x W x 3"):
        codec.decode(mask)
    with pytest.raises(TypeError, match="float64"):
        codec.decode(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"the prediction \(2, 2\); resize the"):
        codec.to_fields(mask, np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="expected 0 and 1"):
        codec.to_fields(mask, mask + 3)
