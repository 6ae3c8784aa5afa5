"""Answers that need no model, scored beside the predictions, and joints that are not there."""

import numpy as np
import pytest

from delvm_mm.codecs import ForegroundMaskCodec, RestorationCodec, SkeletonCodec
from delvm_mm.datasets.prompt_samples import SupportLabels
from delvm_mm.evaluation import VisionPromptEvaluator
from delvm_mm.evaluation.trivial_answers import (
    TRIVIAL_ANSWERS,
    best_trivial_answers,
    defeats,
    higher_is_better,
)

SKELETON = SkeletonCodec(radius=4, thickness=2)


def mask(rows):
    """A 4 x 4 mask whose first ``rows`` rows are foreground."""
    return (np.arange(4)[:, None] < np.asarray(rows)).repeat(4, axis=1).astype(np.uint8)


def prompt(codec, *labels):
    """Image and label in turns, as a data sample has them."""
    drawn = [codec.encode(label) for label in labels]
    return np.stack([image for label in drawn for image in (np.full_like(label, 77), label)])


def standing(x=128, hidden=()):
    """One person of 128 x 200 pixels, whose joints do not cover each other, in an image of 256 x 256."""
    columns = [0, 10, -10, 20, -20, 40, -40, 60, -60, 64, -64, 24, -24, 28, -28, 30, -30]
    rows = [40, 30, 30, 36, 36, 70, 70, 105, 105, 140, 140, 135, 135, 180, 180, 230, 230]
    keypoints = np.stack([np.add(columns, x), rows], -1)[None].astype(np.float32)
    visible = np.ones((1, 17), np.float32)
    visible[0, list(hidden)] = 0
    return dict(keypoints=keypoints, keypoints_visible=visible, img_shape=(256, 256))


def scores(evaluator, **sample):
    evaluator.process([dict(sample_idx=0) | sample])
    return evaluator.evaluate(size=1)


def test_trivial_masks_score_what_they_score_by_hand():
    pytest.importorskip("mmseg")
    codec = ForegroundMaskCodec()
    evaluator = VisionPromptEvaluator(codec, dict(type="mmseg.IoUMetric"), ceiling=False, prefix="seg")
    # The mean of 1, 4 and 2 rows, read at one half: the 2 rows that two of the three have.
    given = prompt(codec, mask(4), mask(2), mask(1))
    result = scores(evaluator, annotation=mask(2), pred_image=codec.encode(mask(3)), prompt_images=given)
    assert result["seg/mIoU"] == pytest.approx(100 * (2 / 3 + 1 / 2) / 2, abs=0.01)
    assert result["seg/trivial/nothing/mIoU"] == pytest.approx(100 * (0 + 2 / 4) / 2, abs=0.01)
    assert result["seg/trivial/last_label/mIoU"] == pytest.approx(100 * (1 / 2 + 2 / 3) / 2, abs=0.01)
    assert result["seg/trivial/mean_label/mIoU"] == 100
    assert not any("input" in name for name in result)
    assert defeats(result, "seg")[-2:] == [
        "seg: the model loses to the mean of the labels shown in mIoU, 58.33 against 100",
        "seg: the model loses to the mean of the labels shown in mAcc, 75 against 100",
    ]
    # The next evaluation starts from nothing, and without a prompt there is nothing to repeat.
    assert set(scores(evaluator, annotation=mask(2), pred_image=codec.encode(mask(2)))) == {
        "seg/aAcc", "seg/mIoU", "seg/mAcc"
    }  # fmt: skip


def test_a_restored_image_is_scored_beside_the_query_itself_and_through_the_tokenizer():
    truth = np.full((16, 16, 3), 100, np.uint8)
    evaluator = VisionPromptEvaluator(RestorationCodec(), dict(type="RestorationMetric"), ceiling=False)
    result = scores(
        evaluator, annotation=truth, pred_image=truth + 20, query_image=truth + 5, query_ceiling_image=truth + 10,
        prompt_images=prompt(RestorationCodec(), truth - 100, truth + 2, truth + 40),
    )  # fmt: skip
    # The mean of 0, 102 and 140 is 80.67, as 8 bits 81.
    shift = dict(nothing=100, last_label=40, mean_label=19, input=5, input_tokenized=10)
    for name, distance in shift.items():
        assert result[f"trivial/{name}/restoration/PSNR"] == pytest.approx(20 * np.log10(255 / distance)), name
    assert set(shift) == set(TRIVIAL_ANSWERS) - {"prior"}
    assert any(line.startswith("the model loses to the query itself in restoration/PSNR") for line in defeats(result))


def test_detail_goes_to_answer_ceiling_and_tokenized_query_alike_and_the_query_stays_itself():
    truth = np.full((16, 16, 3), 100, np.uint8)
    evaluator = VisionPromptEvaluator(RestorationCodec(detail=0.5), dict(type="RestorationMetric"))
    result = scores(
        evaluator, annotation=truth, pred_image=truth + 20, query_image=truth + 6, query_ceiling_image=truth + 10,
        ceiling_image=truth + 3, prompt_images=prompt(RestorationCodec(), truth),
    )  # fmt: skip
    # The tokenizer made the query brighter by 4, half of which is taken back.
    for name, distance in {"": 18, "ceiling/": 1, "trivial/input/": 6, "trivial/input_tokenized/": 8}.items():
        assert result[f"{name}restoration/PSNR"] == pytest.approx(20 * np.log10(255 / distance)), name


class Labels(list):
    """A dataset of pairs whose labels are these."""

    def __getitem__(self, position):
        label = super().__getitem__(position)
        return dict(img=label, label=label, annotation=0)


def test_the_prior_is_the_mean_of_the_labels_that_prompts_are_from():
    pytest.importorskip("mmseg")
    codec = ForegroundMaskCodec()
    evaluator = VisionPromptEvaluator(codec, dict(type="mmseg.IoUMetric"), ceiling=False, prefix="seg")
    labels = Labels(codec.encode(mask(rows)) for rows in (1, 2, 2, 2, 4))
    evaluator.dataset_meta = dict(support_labels=SupportLabels(labels))
    assert "support_labels" not in evaluator.dataset_meta
    given = prompt(codec, mask(4))
    # Most of the five have 2 rows.
    result = scores(evaluator, annotation=mask(2), pred_image=codec.encode(mask(3)), prompt_images=given)
    assert result["seg/trivial/prior/mIoU"] == 100 > result["seg/trivial/last_label/mIoU"]
    assert "seg: the model loses to the mean of up to 100 labels" in defeats(result, "seg")[0]
    # It is of one dataset, and there is none of labels that differ in size.
    evaluator.dataset_meta = dict(
        support_labels=SupportLabels(Labels([*list.__iter__(labels), np.zeros((2, 4, 3), np.uint8)]))
    )
    sample = dict(annotation=mask(2), pred_image=codec.encode(mask(3)), prompt_images=given)
    assert not any("prior" in name for name in scores(evaluator, **sample))


def test_of_many_labels_some_are_read_spread_over_all():
    labels = Labels(np.full((2, 2, 3), value, np.uint8) for value in range(250))
    assert SupportLabels(labels, limit=4).read()[:, 0, 0, 0].tolist() == [0, 83, 166, 249]
    assert len(SupportLabels(labels).read()) == 100
    with pytest.raises(ValueError, match="sample 0 of the support dataset lacks annotation"):
        SupportLabels([dict(img=0, label=0)]).read()


def test_an_image_without_a_skeleton_earns_nothing():
    pytest.importorskip("mmpose")
    metrics = [dict(type="mmpose.PCKAccuracy", thr=0.5), dict(type="mmpose.CocoMetric")]
    evaluator = VisionPromptEvaluator(SKELETON, metrics, ceiling=False)
    black = np.zeros((256, 256, 3), np.uint8)
    result = scores(evaluator, annotation=standing(), pred_image=black, prompt_images=prompt(SKELETON, standing()))
    assert result["PCK"] == result["trivial/nothing/PCK"] == result["coco/AP"] == 0
    assert result["trivial/last_label/PCK"] == 1 and result["trivial/last_label/coco/AP"] == pytest.approx(1)
    assert SKELETON.decode(black)["keypoints_visible"].max() == 0


def test_joints_that_were_not_drawn_earn_nothing_and_the_others_all():
    pytest.importorskip("mmpose")
    evaluator = VisionPromptEvaluator(SKELETON, dict(type="mmpose.PCKAccuracy", thr=0.5), ceiling=False)
    legs = [13, 14, 15, 16]
    result = scores(evaluator, annotation=standing(), pred_image=SKELETON.encode(standing(hidden=legs)))
    assert result["PCK"] == pytest.approx(13 / 17)


def test_the_mean_of_skeletons_is_a_person_between_them():
    people = [SKELETON.encode(standing(x)) for x in (100, 140)]
    read = SKELETON.decode_mean(np.stack(people))
    np.testing.assert_allclose(read["keypoints"], standing(120)["keypoints"], atol=1)
    assert read["keypoints_visible"].all()
    # Where one of them has no legs, those of the other.
    some = SKELETON.decode_mean(np.stack([people[0], SKELETON.encode(standing(140, hidden=[15, 16]))]))
    np.testing.assert_allclose(some["keypoints"][0, 15], standing(100)["keypoints"][0, 15], atol=1)


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        ("mIoU", True), ("IoU_cat", True), ("PCK(thr=0.1)", True), ("coco/AP (M)", True), ("coco/AR .5", True),
        ("restoration/PSNR_Y", True), ("accuracy/top1", True), ("EPE", False), ("token/loss", False),
        ("LPIPS", False), ("loss/of/mAcc", True), ("count", None),
    ],
)  # fmt: skip
def test_the_direction_of_a_metric_is_known_by_its_name(metric, higher):
    assert higher_is_better(metric) is higher


def test_who_wins_is_not_said_to_lose_and_who_draws_is():
    results = {"EPE": 3.0, "trivial/nothing/EPE": 4.0, "trivial/last_label/EPE": 3.5}
    assert defeats(results) == []
    (line,) = defeats(results | {"EPE": 3.5})
    assert line == "the model is no better than the label shown last in EPE, 3.5 against 3.5"
    assert "loses to" in defeats(results | {"EPE": float("nan")})[0]
    # Nothing is known of a metric without a direction, and -1 is COCO's "nothing to score".
    assert defeats({"count": 1, "trivial/nothing/count": 2, "coco/AP (M)": -1, "trivial/nothing/coco/AP (M)": -1}) == []


def test_the_best_answer_without_a_model_is_the_highest_or_the_lowest_as_the_metric_counts():
    result = {
        "t/mIoU": 50.0, "t/ceiling/mIoU": 99.0, "t/trivial/nothing/mIoU": 43.0, "t/trivial/mean_label/mIoU": 61.0,
        "t/MAE": 0.2, "t/trivial/nothing/MAE": 0.5, "t/trivial/mean_label/MAE": 0.3,
        "t/AP": 0.1, "t/trivial/nothing/AP": -1, "t/trivial/mean_label/AP": float("nan"),
        "t/odd": 1.0, "t/trivial/nothing/odd": 2.0, "t/images_per_s": 3.0, "prompt": dict(seed=0),
    }  # fmt: skip
    assert best_trivial_answers(result, "t") == {"mIoU": ("mean_label", 61.0), "MAE": ("mean_label", 0.3)}
    # 'odd' counts in no known way, and AP has no answer that could be scored.
    assert [sentence.split(" in ")[1] for sentence in defeats(result, "t")] == ["mIoU, 50 against 61"]
