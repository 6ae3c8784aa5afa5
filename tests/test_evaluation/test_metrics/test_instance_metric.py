"""Instances without classes: recalls and matched IoU by hand."""

import numpy as np
import pytest

from delvm_mm.codecs import RandomColorMaskCodec
from delvm_mm.evaluation import InstanceMetric, VisionPromptEvaluator
from delvm_mm.evaluation.trivial_answers import higher_is_better


def boxes(*corners, size=40):
    """Masks, N x size x size, of boxes (left, top, right, lower)."""
    masks = np.zeros((len(corners), size, size), bool)
    for mask, (left, top, right, lower) in zip(masks, corners, strict=True):
        mask[top:lower, left:right] = True
    return masks


def score(*pairs, **arguments):
    metric = InstanceMetric(**arguments)
    for found, wanted in pairs:
        metric.process(None, [dict(pred_instances=dict(masks=found), gt_instances=dict(masks=wanted))])
    return metric.evaluate(len(pairs))


def test_recall_and_matched_iou_are_those_by_hand():
    # One mask exactly, one of 10 x 10 with 8 columns of it (IoU 0.8), one not at all; and one too many.
    wanted = boxes((0, 0, 10, 10), (20, 0, 30, 10), (0, 20, 10, 30))
    found = boxes((0, 0, 10, 10), (20, 0, 28, 10), (30, 30, 36, 36))
    result = score((found, wanted))
    # At 0.5 to 0.8 (seven thresholds) two of three are found, at 0.85 to 0.95 one.
    assert result["instances/AR"] == pytest.approx((7 * 2 / 3 + 3 * 1 / 3) / 10)
    assert result["instances/AR@50"] == pytest.approx(2 / 3)
    assert result["instances/matched_IoU"] == pytest.approx((1 + 0.8 + 0) / 3)
    # All are smaller than 32 x 32.
    assert result["instances/AR (small)"] == result["instances/AR"] and np.isnan(result["instances/AR (large)"])
    assert all(higher_is_better(name) for name in result)


def test_pairs_are_one_to_one_and_make_the_sum_largest():
    # The found mask overlaps both; paired with the first 0.5, with the second 1/3.
    wanted = boxes((0, 0, 10, 10), (10, 0, 20, 10))
    found = boxes((0, 0, 20, 10))
    assert score((found, wanted))["instances/matched_IoU"] == pytest.approx(0.5 / 2)


def test_images_without_masks_count_where_there_were_some():
    nothing, one = boxes(), boxes((0, 0, 10, 10))
    result = score((nothing, one), (one, one), (one, nothing))
    assert result["instances/AR"] == pytest.approx(1 / 2) and result["instances/matched_IoU"] == pytest.approx(1 / 2)
    assert np.isnan(score((one, nothing))["instances/AR"])


def test_more_masks_than_max_dets_are_left_out_by_score():
    wanted = boxes((0, 0, 10, 10))
    found = boxes((20, 20, 30, 30), (0, 0, 10, 10))
    metric = InstanceMetric(max_dets=1)
    metric.process(
        None,
        [dict(pred_instances=dict(masks=found, scores=np.array([0.2, 0.9])), gt_instances=dict(masks=wanted))],
    )
    assert metric.evaluate(1)["instances/AR"] == 1


def test_random_color_masks_are_scored_in_the_evaluator():
    codec = RandomColorMaskCodec()
    truth = np.zeros((40, 40), np.uint8)
    truth[:10, :10], truth[:10, 20:30], truth[20:30, :10] = 1, 2, 3
    drawn = truth.copy()
    drawn[:10, 28:30], drawn[20:30, :10] = 0, 0
    evaluator = VisionPromptEvaluator(codec, dict(type="InstanceMetric"), prefix="sa1b")
    evaluator.process(
        [dict(annotation=truth, pred_image=codec.encode(drawn), ceiling_image=codec.encode(truth), sample_idx=0)]
    )
    result = evaluator.evaluate(1)
    assert result["sa1b/instances/AR"] == pytest.approx((7 * 2 / 3 + 3 * 1 / 3) / 10)
    assert result["sa1b/ceiling/instances/AR"] == 1


def test_what_is_no_mask_is_refused():
    metric, good = InstanceMetric(), dict(masks=boxes((0, 0, 4, 4)))
    with pytest.raises(ValueError, match=r"reads pred_instances\.masks.*RandomColorMaskCodec"):
        metric.process(None, [dict(gt_instances=good)])
    with pytest.raises(ValueError, match="expected bool N x H x W"):
        metric.process(None, [dict(pred_instances=dict(masks=np.zeros((4, 4))), gt_instances=good)])
    with pytest.raises(ValueError, match=r"the predicted masks of a.png are \(20, 20\), the true ones \(40, 40\)"):
        small = dict(masks=boxes((0, 0, 4, 4), size=20))
        metric.process(None, [dict(pred_instances=small, gt_instances=good, img_path="a.png")])
    with pytest.raises(ValueError, match="max_dets is 0"):
        InstanceMetric(max_dets=0)
