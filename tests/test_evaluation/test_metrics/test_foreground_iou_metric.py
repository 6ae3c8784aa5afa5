"""IoU of the foreground by hand, over images and over classes, alone and inside the evaluator."""

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, PixelData

from delvm_mm.codecs import ForegroundMaskCodec
from delvm_mm.evaluation import VisionPromptEvaluator
from delvm_mm.evaluation.metrics.foreground_iou_metric import FoldIoUMetric, ForegroundIoUMetric
from delvm_mm.registry import METRICS


def rows(count, of=8):
    """A map of ``of`` x 4 whose first ``count`` rows are foreground."""
    return (np.arange(of)[:, None] < count).repeat(4, axis=1).astype(np.uint8)


def sample(prediction, truth, **fields):
    return {"pred_sem_seg": {"data": prediction}, "gt_sem_seg": {"data": truth}, **fields}


def score(*samples, **arguments):
    metric = ForegroundIoUMetric(**arguments)
    metric.process(None, list(samples))
    return metric.evaluate(len(samples))


# Rows predicted, rows true, class: intersections 2 3 1 0, unions 4 6 2 5 (x 4 pixels).
FOUR = ((2, 4, 7), (6, 3, 7), (1, 2, 9), (5, 0, 9))


def test_scores_are_those_by_hand():
    result = score(*(sample(rows(p), rows(t), class_id=c, class_name=f"c{c}") for p, t, c in FOUR))
    assert result == {
        "IoU": pytest.approx(100 * 6 / 17),
        "mIoU_image": pytest.approx(100 * (2 / 4 + 3 / 6 + 1 / 2 + 0) / 4),
        "mIoU": pytest.approx(100 * (5 / 10 + 1 / 7) / 2),
        "IoU_c7": pytest.approx(100 * 5 / 10),
        "IoU_c9": pytest.approx(100 * 1 / 7),
    }


def test_without_classes_there_is_no_score_of_classes():
    samples = [sample(rows(p), rows(t)) for p, t, _ in FOUR]
    assert set(score(*samples)) == {"IoU", "mIoU_image"}
    assert set(score(*samples, sample(rows(1), rows(1), class_id=3))) == {"IoU", "mIoU_image"}
    assert "IoU_3" in score(sample(rows(1), rows(1), class_id=3)), "a class without name is called by its number"


def test_ignored_pixels_count_neither_in_intersection_nor_in_union():
    truth = rows(4)
    truth[:1], truth[7:] = 255, 255
    # Of rows 1 to 6, 1 to 3 are true; 1 to 5 are predicted, and rows 0 and 7 do not matter.
    predicted = rows(6)
    predicted[7] = 1
    assert score(sample(predicted, truth))["IoU"] == pytest.approx(100 * 3 / 5)
    assert score(sample(predicted, np.where(truth == 255, 9, truth)), ignore_index=9)["IoU"] == pytest.approx(60)


@pytest.mark.filterwarnings("ignore:The shape of value will convert")
def test_maps_may_be_tensors_or_arrays_with_or_without_channel():
    expected = score(sample(rows(2), rows(4)))
    as_tensor = torch.from_numpy(rows(2)).long()[None]
    assert score(sample(as_tensor, rows(4)[None].astype(np.int64))) == expected
    assert score({"pred_sem_seg": PixelData(data=as_tensor), "gt_sem_seg": PixelData(data=rows(4))}) == expected
    assert score(sample(rows(2) > 0, rows(4) > 0)) == expected


def test_an_image_without_foreground_counts_only_where_some_is_predicted():
    empty, wrong, half = sample(rows(0), rows(0)), sample(rows(2), rows(0)), sample(rows(2), rows(4))
    assert score(empty, half) == {"IoU": 50, "mIoU_image": 50}
    assert score(wrong, half) == {"IoU": pytest.approx(100 * 2 / 6), "mIoU_image": 25}
    assert all(np.isnan(value) for value in score(empty, sample(rows(0), rows(0))).values())


def test_maps_that_cannot_be_compared_are_refused():
    metric = ForegroundIoUMetric()
    for bad, message in (
        (sample(rows(1, 6), rows(1), img_path="a.png"), r"of a\.png is \(6, 4\), the true one \(8, 4\)"),
        ({"pred_sem_seg": {"data": rows(1)}}, "reads gt_sem_seg.data"),
        (sample(rows(1).astype(float), rows(1)), "pred_sem_seg is float64"),
        (sample(np.zeros((2, 8, 4), int), rows(1)), r"of shape \(2, 8, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.process(None, [bad])


def test_the_foreground_of_mmseg_is_the_same():
    """mmseg's IoU of class 1, of its ``IoUMetric`` over the same maps, to the two digits that it gives."""
    mmseg = pytest.importorskip("mmseg.evaluation")
    samples = [sample(torch.from_numpy(rows(p))[None], torch.from_numpy(rows(t))[None]) for p, t, _ in FOUR]
    theirs = mmseg.IoUMetric()
    theirs.dataset_meta = {"classes": ("background", "foreground")}
    for each in samples:
        theirs.process(None, [each])
    areas = [sum(column) for column in zip(*theirs.results, strict=True)]
    assert score(*samples)["IoU"] == pytest.approx(100 * float(areas[0][1] / areas[1][1]))


def test_it_scores_predictions_and_ceiling_in_the_evaluator():
    codec = ForegroundMaskCodec()
    evaluator = VisionPromptEvaluator(codec, dict(type="ForegroundIoUMetric"), prefix="seg")
    samples = []
    for number, (predicted, true, class_id) in enumerate(FOUR[:3]):
        element = BaseDataElement(
            metainfo=dict(sample_idx=number, class_id=class_id, class_name=f"c{class_id}", task="seg")
        )
        element.annotation = rows(true)
        element.pred_image, element.ceiling_image = codec.encode(rows(predicted)), codec.encode(rows(true))
        samples.append(element)
    evaluator.process(samples)
    result = evaluator.evaluate(3)
    assert result["seg/IoU"] == pytest.approx(100 * 6 / 12) and result["seg/mIoU"] == pytest.approx(50)
    assert result["seg/IoU_c9"] == pytest.approx(50)
    assert {result[f"seg/ceiling/{name}"] for name in ("IoU", "mIoU_image", "mIoU", "IoU_c7", "IoU_c9")} == {100}


def test_it_is_registered():
    assert METRICS.get("ForegroundIoUMetric") is ForegroundIoUMetric
    assert ForegroundIoUMetric(prefix="fg").evaluate(0) == {}


def folds(*samples, **arguments):
    metric = FoldIoUMetric(**arguments)
    metric.process(None, list(samples))
    return metric.evaluate(len(samples))


def test_a_mean_over_queries_and_one_over_classes_differ_and_folds_weigh_alike():
    of_fold = [sample(rows(p), rows(t), class_id=c, fold=0) for p, t, c in FOUR]
    other = sample(rows(3), rows(4), class_id=11, fold=1)
    by_query = 100 * (2 / 4 + 3 / 6 + 1 / 2 + 0) / 4
    assert folds(*of_fold, other) == {
        "IoU": pytest.approx((by_query + 75) / 2),
        "IoU_fold0": pytest.approx(by_query),
        "IoU_fold1": pytest.approx(75),
    }
    by_class = 100 * (5 / 10 + 1 / 7) / 2
    # Of 4 x 8 rows 17 are in a union and 6 in an intersection: the background's are 15 and 26.
    both = 100 * (6 / 17 + 15 / 26) / 2
    result = folds(*of_fold, other, over="classes")
    assert result["mIoU_fold0"] == pytest.approx(by_class) and result["mIoU"] == pytest.approx((by_class + 75) / 2)
    assert result["FB-IoU_fold0"] == pytest.approx(both)
    assert result["FB-IoU"] == pytest.approx((both + 100 * (3 / 4 + 4 / 5) / 2) / 2)


def test_without_folds_there_is_one_score():
    plain = [sample(rows(p), rows(t), class_id=c) for p, t, c in FOUR]
    assert set(folds(*plain)) == {"IoU"} and set(folds(*plain, over="classes")) == {"mIoU", "FB-IoU"}
    truth = rows(4)
    truth[7:] = 255
    result = folds(sample(rows(8), truth, class_id=1), over="classes")
    assert result == {"mIoU": pytest.approx(100 * 4 / 7), "FB-IoU": pytest.approx(50 * 4 / 7)}


def test_folds_and_classes_have_to_be_known():
    with pytest.raises(ValueError, match="some samples have a fold, others none"):
        folds(sample(rows(1), rows(1), fold=0), sample(rows(1), rows(1)))
    with pytest.raises(ValueError, match="needs class_id of every sample"):
        folds(sample(rows(1), rows(1)), over="classes")
    with pytest.raises(ValueError, match="over is 'pixels'"):
        FoldIoUMetric(over="pixels")
