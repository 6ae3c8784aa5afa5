import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from delvm_mm.evaluation import ReconstructionMetric, RestorationMetric
from delvm_mm.evaluation.metrics.restoration_metric import as_image, luma
from delvm_mm.registry import METRICS


def noisy_pair(seed, size=(24, 40)):
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, size[1])[None, :, None] * np.ones((size[0], 1, 3))
    images = [np.clip(ramp + rng.normal(0, 20, ramp.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    return images


def sample(prediction, truth):
    return dict(pred_img=dict(data=prediction), gt_img=dict(data=truth))


def score(metric, *samples):
    metric.process(None, samples)
    return metric.evaluate(size=len(samples))


def test_psnr_of_a_constant_error_is_what_arithmetic_says():
    truth = np.full((16, 16, 3), 100, np.uint8)
    result = score(METRICS.build(dict(type="RestorationMetric")), sample(truth + 10, truth))
    assert result["restoration/PSNR"] == pytest.approx(20 * np.log10(255 / 10), rel=1e-6)
    # 16 + 219 * 100 / 255 = 101.88 -> 102 and 16 + 219 * 110 / 255 = 110.47 -> 110
    assert result["restoration/PSNR_Y"] == pytest.approx(20 * np.log10(255 / 8), rel=1e-6)
    # Without variance SSIM is its luminance term, (2ab + c1) / (a^2 + b^2 + c1)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)
    assert result["restoration/SSIM"] == pytest.approx(expected, abs=1e-6)


def test_psnr_and_ssim_agree_with_skimage():
    prediction, truth = noisy_pair(0)
    result = score(RestorationMetric(), sample(torch.from_numpy(prediction), torch.from_numpy(truth)))
    settings = dict(data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert result["restoration/PSNR"] == pytest.approx(peak_signal_noise_ratio(truth, prediction, data_range=255))
    assert result["restoration/SSIM"] == pytest.approx(
        structural_similarity(truth, prediction, channel_axis=2, **settings), abs=1e-6
    )
    y_prediction, y_truth = luma(prediction)[..., 0], luma(truth)[..., 0]
    assert result["restoration/PSNR_Y"] == pytest.approx(peak_signal_noise_ratio(y_truth, y_prediction, data_range=255))
    assert result["restoration/SSIM_Y"] == pytest.approx(
        structural_similarity(y_truth, y_prediction, **settings), abs=1e-6
    )


def test_scores_are_averaged_over_images_and_not_over_pixels():
    first, second = sample(*noisy_pair(1, (16, 16))), sample(*noisy_pair(2, (32, 48)))
    alone = [score(RestorationMetric(), one)["restoration/PSNR"] for one in (first, second)]
    assert score(RestorationMetric(), first, second)["restoration/PSNR"] == pytest.approx(np.mean(alone))


def test_luma_is_that_of_rgb2ycbcr_from_16_to_235():
    colors = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    # 16 + 65.481, 16 + 128.553 and 16 + 24.966, rounded
    assert luma(colors)[0, :, 0].tolist() == [16, 235, 81, 145, 41]


def test_identical_images_have_infinite_psnr_and_ssim_one():
    image, _ = noisy_pair(3)
    result = score(RestorationMetric(channels="rgb"), sample(image, image.copy()))
    assert result == {"restoration/PSNR": np.inf, "restoration/SSIM": pytest.approx(1)}


def test_reconstruction_of_floats_scores_as_the_saved_images():
    prediction, truth = noisy_pair(4)
    expected = score(RestorationMetric(prefix="reconstruction"), sample(prediction, truth))
    floats = torch.from_numpy(prediction).float() / 255
    result = score(ReconstructionMetric(), dict(reconstruction=floats, image=truth))
    assert result == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((16, 12, 3), np.uint8), r"\(16, 12, 3\) with one of \(16, 16, 3\)"),
        (np.zeros((16, 16), np.uint8), "H x W x 3"),
        (np.zeros((16, 16, 3), np.int64), "uint8"),
        (np.full((16, 16, 3), 255.0), "clamp or rescale"),
        (np.full((16, 16, 3), np.nan), "clamp or rescale"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(prediction, message):
    with pytest.raises(ValueError, match=message):
        RestorationMetric().process(None, [sample(prediction, np.zeros((16, 16, 3), np.uint8))])


def test_images_smaller_than_the_window_are_refused():
    tiny = np.zeros((8, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        RestorationMetric().process(None, [sample(tiny, tiny)])


def test_missing_fields_are_named():
    with pytest.raises(ValueError, match="'pred_img' is missing"):
        RestorationMetric().process(None, [dict(gt_img=dict(data=None))])
    with pytest.raises(ValueError, match="'image' is missing"):
        ReconstructionMetric().process(None, [dict(reconstruction=np.zeros((16, 16, 3), np.uint8))])


def test_unknown_channels_are_refused():
    with pytest.raises(ValueError, match="'rgb' and 'y'"):
        RestorationMetric(channels=["cb"])


def test_floats_are_rounded_to_eight_bits():
    assert as_image(np.full((1, 1, 3), 0.5)).tolist() == [[[128, 128, 128]]]
    assert as_image(torch.ones(1, 1, 3, dtype=torch.bfloat16)).tolist() == [[[255, 255, 255]]]
