"""Depth drawn and read back, clean and degraded, and scored by mmseg's metric."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from delvm_mm.codecs import DepthCodec
from delvm_mm.evaluation import VisionPromptEvaluator


def depth_maps(number, low, high, shape=(60, 80)):
    """Smooth surfaces with steps, all over the range."""
    random = np.random.default_rng(0)
    for _ in range(number):
        part = cv2.resize(random.random((4, 5)), shape[::-1], interpolation=cv2.INTER_CUBIC)
        part[:, : shape[1] // 3] = random.random()
        yield low * (high / low) ** np.clip(part, 0, 1)


@pytest.mark.parametrize(("low", "high"), [(0.5, 20.0), (1.0, 80.0), (0.1, 0.4)])
def test_depth_comes_back_to_half_a_level(low, high):
    log, linear = DepthCodec(low, high), DepthCodec(low, high, scale="linear")
    for depth in depth_maps(100, low, high):
        assert np.abs(np.log(log.decode(log.encode(depth)) / depth)).max() <= np.log(high / low) / 508 * 1.0001
        assert np.abs(linear.decode(linear.encode(depth)) - depth).max() <= (high - low) / 508 * 1.0001


def test_levels_by_hand():
    codec = DepthCodec(1, 81, scale="linear")
    assert codec.encode(np.array([[1.0, 41.0, 81.0]]))[0, :, 1].tolist() == [255, 128, 1]
    codec = DepthCodec(1, 16)
    shown = np.array([[0.5, 1, 4, 16, 40, 0, -1, np.nan, np.inf]])
    # ln 4 is half of ln 16. Too near is nearest, too far farthest, unknown black.
    assert codec.encode(shown)[0, :, 0].tolist() == [255, 255, 128, 1, 1, 0, 0, 0, 0]
    gray = np.array([[[0] * 3, [1] * 3, [255] * 3, [127, 128, 129]]], np.uint8)
    np.testing.assert_allclose(codec.decode(gray), [[16, 16, 1, 4]], rtol=1e-6)


def blur(image):
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=50)
    return np.array(Image.open(file))


def noise(image):
    return np.clip(np.rint(image + np.random.default_rng(0).normal(0, 12, image.shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("degrade", "error"), [(blur, 0.05), (jpeg, 0.025), (noise, 0.1)])
def test_degraded_drawings_are_read_on_average(degrade, error):
    codec = DepthCodec()
    for depth in depth_maps(50, 0.5, 20):
        read = codec.decode(degrade(codec.encode(depth)))
        assert np.mean(np.abs(read - depth) / depth) < error


def score(codec, truths, predictions):
    evaluator = VisionPromptEvaluator(codec, dict(type="mmseg.DepthMetric"), ceiling=False, trivial=False)
    samples = [
        dict(annotation=truth, pred_image=codec.encode(given)) for truth, given in zip(truths, predictions, strict=True)
    ]
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def test_scores_are_those_by_hand():
    codec = DepthCodec(0.5, 20)
    truths = list(depth_maps(3, 0.5, 20))
    given = [np.clip(truth * factor, 0.5, 20) for truth, factor in zip(truths, (1.1, 0.7, 1.4), strict=True)]
    truths[0][:20] = 0  # not known
    truths[1][:, :9] = 30  # cannot be drawn
    scores = score(codec, truths, given)
    relative, squared, near = [], [], []
    for truth, image in zip(truths, map(codec.encode, given), strict=True):
        known = (truth >= 0.5) & (truth <= 20)
        true, read = truth[known], codec.decode(image)[known]
        relative.append(np.mean(np.abs(true - read) / true))
        squared.append(np.sqrt(np.mean((true - read) ** 2)))
        near.append(np.mean(np.maximum(true / read, read / true) < 1.25))
    assert scores["abs_rel"] == pytest.approx(np.mean(relative), abs=1e-4)
    assert scores["rmse"] == pytest.approx(np.mean(squared), abs=1e-3)
    assert scores["d1"] == pytest.approx(np.mean(near), abs=1e-4)


def test_fields_leave_out_what_cannot_be_drawn():
    fields = DepthCodec(1, 10).to_fields(np.array([[0.5, 1, 10, 11, np.nan]]), np.ones((1, 5), np.float32))
    assert fields["gt_depth_map"]["data"].tolist() == [[0, 1, 10, 0, 0]]
    assert torch.as_tensor(fields["pred_depth_map"]["data"]).dtype == torch.float32
    with pytest.raises(ValueError, match="resize the prediction"):
        DepthCodec().to_fields(np.ones((2, 2)), np.ones((3, 2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(min_depth=0), "0 < min < max"), (dict(min_depth=5, max_depth=2), "0 < min < max"),
        (dict(max_depth=np.inf), "max_depth is inf"), (dict(scale="square"), "'square'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DepthCodec(**arguments)


def test_bad_maps_are_refused():
    with pytest.raises(TypeError, match="got list"):
        DepthCodec().encode([[1.0]])
    with pytest.raises(ValueError, match=r"\(2, 2, 1\), expected a depth map"):
        DepthCodec().encode(np.ones((2, 2, 1)))
    with pytest.raises(ValueError, match="'gt_depth_map'"):
        DepthCodec().annotation_of({})
