"""Scores of single classes against the toolboxes' own means, and by hand."""

import math

import numpy as np
import pytest

from delvm_mm.codecs import ForegroundMaskCodec, KeypointDiscsCodec
from delvm_mm.evaluation import VisionPromptEvaluator
from delvm_mm.evaluation.class_scores import ClassScores


def mask_samples(number=6, size=12):
    codec, rng = ForegroundMaskCodec(), np.random.default_rng(0)
    for index in range(number):
        truth, drawn = (rng.integers(0, 2, (size, size)).astype(np.uint8) for _ in range(2))
        yield dict(annotation=truth, pred_image=codec.encode(drawn), sample_idx=index, class_name=f"class {index % 2}")


def person_samples(number=4, size=96):
    codec, rng = KeypointDiscsCodec(), np.random.default_rng(0)
    for index in range(number):
        points = rng.uniform(10, 86, (1, 17, 2))
        people = dict(keypoints=points, keypoints_visible=(rng.random((1, 17)) < 0.8).astype(float))
        off = dict(people, keypoints=points + rng.normal(0, 12, points.shape), img_shape=(size, size))
        truth = codec.annotation_of(dict(people, img_shape=(size, size), img=np.zeros((size, size, 3), np.uint8)))
        yield dict(annotation=truth, pred_image=codec.encode(off), sample_idx=index)


def evaluated(codec, metric, samples):
    """Classes, the evaluator's results of all, and its scores of each sample alone."""
    evaluator = VisionPromptEvaluator(codec, metric, ceiling=False, trivial=False)
    classes = ClassScores(evaluator.codec.dataset_meta)
    alone = []
    for sample in samples:
        evaluator.process([sample])
        alone.append(evaluator.score_alone(sample))
        classes.add(evaluator.fields_of(sample), alone[-1])
    return classes, evaluator.evaluate(len(alone)), alone


def test_the_mean_of_classes_is_mmsegs_miou():
    classes, results, alone = evaluated(dict(type="ForegroundMaskCodec"), dict(type="mmseg.IoUMetric"), mask_samples())
    table = classes.tables()["IoU of classes"]
    assert np.mean([score for score, _ in table.values()]) == pytest.approx(results["mIoU"], abs=0.01)
    assert sum(pixels for _, pixels in table.values()) == 6 * 12 * 12
    of_objects = classes.tables()["mean mIoU of single answers, by class of the object"]
    assert {name: count for name, (_, count) in of_objects.items()} == {"class 0": 3, "class 1": 3}
    assert of_objects["class 1"][0] == pytest.approx(np.mean([one["mIoU"] for one in alone[1::2]]))


def test_the_mean_of_keypoints_is_mmposes_pck():
    metric = dict(type="mmpose.PCKAccuracy", thr=0.2, norm_item="bbox")
    classes, results, _ = evaluated(dict(type="KeypointDiscsCodec"), metric, person_samples())
    (table,) = classes.tables().values()
    known = [score / 100 for score, count in table.values() if count]
    assert np.mean(known) == pytest.approx(results["PCK"], abs=1e-6)
    assert next(iter(table)) == "nose"


def test_a_sample_alone_scores_what_it_scores_in_a_set_of_one():
    samples = list(mask_samples(2))
    _, _, alone = evaluated(dict(type="ForegroundMaskCodec"), dict(type="mmseg.IoUMetric"), samples)
    for sample, scores in zip(samples, alone, strict=True):
        _, results, _ = evaluated(dict(type="ForegroundMaskCodec"), dict(type="mmseg.IoUMetric"), [sample])
        assert scores == pytest.approx(results)


def test_parts_are_added_and_what_nobody_shows_has_no_score():
    meta = dict(classes=("a", "b", "c"))
    whole, parts = ClassScores(meta), [ClassScores(meta), ClassScores(meta)]
    rng = np.random.default_rng(0)
    for part in parts:
        truth, drawn = rng.integers(0, 2, (2, 8, 8))
        for scores in (whole, part):
            scores.add(dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=drawn)))
    merged = ClassScores(meta)
    merged.merge(parts)
    table = merged.tables()["IoU of classes"]
    assert table == {**whole.tables()["IoU of classes"], "c": table["c"]}
    assert math.isnan(table["c"][0]) and table["c"][1] == 0


def test_pixels_that_are_ignored_do_not_count():
    scores = ClassScores(dict(classes=("a", "b")))
    truth, drawn = np.array([[0, 255], [1, 255]]), np.array([[0, 1], [1, 0]])
    scores.add(dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=drawn)))
    assert scores.tables()["IoU of classes"] == {"a": (100.0, 1), "b": (100.0, 1)}


def test_restored_images_have_no_classes():
    scores = ClassScores({})
    scores.add(dict(pred_img=np.zeros((4, 4, 3))), dict(PSNR=20.0))
    assert scores.tables() == {}
