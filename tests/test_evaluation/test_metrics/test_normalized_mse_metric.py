"""MSE in ImageNet's normalized space."""

import numpy as np
import pytest

from delvm_mm.evaluation import NormalizedMSEMetric


def test_one_level_of_each_channel_weighs_by_its_deviation():
    metric, black = NormalizedMSEMetric(), np.zeros((4, 5, 3), np.uint8)
    white = np.full((4, 5, 3), 255, np.uint8)
    metric.process(None, [dict(pred_img=dict(data=black), gt_img=dict(data=white))])
    assert metric.evaluate(1) == {"MSE": pytest.approx((0.229**-2 + 0.224**-2 + 0.225**-2) / 3)}


def test_bad_samples_are_refused():
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(
        ValueError, match=r"NormalizedMSEMetric reads pred_img.data and gt_img.data .* 'gt_img' is missing"
    ):
        NormalizedMSEMetric().process(None, [dict(pred_img=dict(data=image))])
    with pytest.raises(ValueError, match=r"\(4, 5, 3\) with one of \(4, 4, 3\)"):
        NormalizedMSEMetric().process(None, [dict(pred_img=dict(data=image), gt_img=dict(data=image[:, :4]))])
