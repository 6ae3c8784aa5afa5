import io
import json
import logging
import sys
from contextlib import redirect_stdout
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import Compose
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from delvm_mm.codecs import ForegroundMaskCodec, LabelCodec, SkeletonCodec
from delvm_mm.datasets import (
    CocoPoseDataset,
    CropPerson,
    DrawLabel,
    KeepAnnotation,
    Letterbox,
    LoadImage,
    ResizeShortSide,
)
from delvm_mm.evaluation import VisionPromptEvaluator
from delvm_mm.registry import EVALUATOR
from helpers.layouts_people import write_coco_pose

SIZE = 128


class DotsCodec(LabelCodec):
    """Keypoint k is the one pixel of gray level 10 (k + 1)."""

    dataset_meta: ClassVar = dict(dataset_name="dots", num_keypoints=17, sigmas=np.full(17, 0.05))

    def encode(self, annotation):
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        for k, (x, y) in enumerate(annotation["keypoints"][0].astype(int)):
            image[y, x] = 10 * (k + 1)
        return image

    def decode(self, image):
        found = [np.argwhere(image[..., 0] == 10 * (k + 1))[0][::-1] for k in range(17)]
        return dict(keypoints=np.array([found], np.float32), keypoint_scores=np.ones((1, 17), np.float32))

    def annotation_of(self, results):
        return results

    def to_fields(self, truth, prediction):
        names = ("keypoints", "keypoints_visible", "bboxes")
        return dict(pred_instances=prediction, gt_instances={name: truth[name] for name in names})


def mask(rows):
    """A 4 x 4 mask whose first ``rows`` rows are foreground."""
    return (np.arange(4)[:, None] < np.asarray(rows)).repeat(4, axis=1).astype(np.uint8)


def mask_sample(truth, prediction, ceiling, index=0):
    draw = ForegroundMaskCodec().encode
    sample = BaseDataElement(metainfo=dict(task="seg", sample_idx=index, img_path=f"{index}.png"))
    sample.annotation, sample.pred_image, sample.ceiling_image = truth, draw(prediction), draw(ceiling)
    return sample


def person(shift_of=(), shift=0):
    keypoints = np.stack([8 + 5 * np.arange(17), 20 + 3 * np.arange(17)], -1)[None].astype(np.float32)
    keypoints[:, list(shift_of), 0] += shift
    return dict(
        keypoints=keypoints, keypoints_visible=np.ones((1, 17), np.float32), bboxes=np.float32([[8, 20, 108, 80]])
    )


def person_sample(prediction, ceiling, index=0, truth=None):
    draw = DotsCodec().encode
    truth = truth or person()
    return dict(annotation=truth, pred_image=draw(prediction), ceiling_image=draw(ceiling), sample_idx=index)


def score(evaluator, *samples):
    evaluator.process(list(samples))
    return evaluator.evaluate(size=len(samples))


def test_miou_of_prediction_and_ceiling_is_that_by_hand():
    pytest.importorskip("mmseg")
    evaluator = VisionPromptEvaluator(ForegroundMaskCodec(), dict(type="mmseg.IoUMetric"), prefix="seg")
    # Two images of 4 x 4: truth 2 and 1 rows, predicted 1 and 1, ceiling 2 and 2.
    result = score(evaluator, mask_sample(mask(2), mask(1), mask(2), 0), mask_sample(mask(1), mask(1), mask(2), 1))
    # Rows in all: foreground 2 of 3, background 5 of 6; 7 of 8 rows right.
    assert result["seg/mIoU"] == pytest.approx(100 * (2 / 3 + 5 / 6) / 2, abs=0.01)
    assert result["seg/aAcc"] == pytest.approx(87.5, abs=0.01)
    json.dumps(result)  # plain numbers
    # Foreground 3 of 4, background 4 of 5.
    assert result["seg/ceiling/mIoU"] == pytest.approx(100 * (3 / 4 + 4 / 5) / 2, abs=0.01)


def test_ignored_pixels_do_not_count():
    pytest.importorskip("mmseg")
    truth = mask(2)
    truth[0] = 255
    evaluator = VisionPromptEvaluator(ForegroundMaskCodec(), dict(type="mmseg.IoUMetric"), ceiling=False)
    result = score(evaluator, mask_sample(truth, mask(4), mask(0)))
    # Rows 1 to 3 count: foreground 1 of 3, background 0 of 2.
    assert result["mIoU"] == pytest.approx(100 * (1 / 3 + 0) / 2, abs=0.01)
    assert not any("ceiling" in name for name in result)


def test_masks_are_scored_at_the_size_of_the_original():
    pytest.importorskip("mmseg")
    kept = np.zeros((4, 8), np.uint8)
    kept[:, 6:] = 1
    letterbox = Compose([KeepAnnotation(ForegroundMaskCodec()), Letterbox(4)])
    query = letterbox(dict(img=np.zeros((4, 8, 3), np.uint8), gt_seg_map=kept))
    predicted = np.zeros((4, 4), np.uint8)
    predicted[:, 2:] = 1
    sample = BaseDataElement(
        annotation=query["gt_seg_map"],
        pred_image=ForegroundMaskCodec().encode(predicted),
        affine=query["affine"],
        ori_shape=(4, 8),
        ori_annotation=query["ori_annotation"],
    )
    evaluator = VisionPromptEvaluator(ForegroundMaskCodec(), dict(type="mmseg.IoUMetric"), ceiling=False, original=True)
    # Columns: predicted 4 of 8, true 2 of 8; foreground 2 of 4, background 4 of 6.
    assert score(evaluator, sample)["mIoU"] == pytest.approx(100 * (2 / 4 + 4 / 6) / 2, abs=0.01)
    with pytest.raises(ValueError, match=r"has no affine, ori_shape, ori_annotation.*KeepAnnotation"):
        score(evaluator, mask_sample(mask(2), mask(2), mask(2)))


def test_pck_is_that_by_hand():
    pytest.importorskip("mmpose")
    evaluator = VisionPromptEvaluator(DotsCodec(), dict(type="mmpose.PCKAccuracy", thr=0.1), prefix="pose")
    # The box is 100 wide, so 10 pixels are near enough and 11 are not.
    result = score(evaluator, person_sample(person([0, 4, 9], 11), person([0, 4, 9], 9)))
    assert result["pose/PCK"] == pytest.approx(14 / 17)
    assert result["pose/ceiling/PCK"] == pytest.approx(1)


def test_invisible_keypoints_do_not_count():
    pytest.importorskip("mmpose")
    truth = person()
    truth["keypoints_visible"][0, [0, 4]] = 0
    evaluator = VisionPromptEvaluator(DotsCodec(), dict(type="mmpose.PCKAccuracy", thr=0.1))
    result = score(evaluator, person_sample(person([0, 4, 9], 11), person(), truth=truth))
    assert result["PCK"] == pytest.approx(14 / 15)


def test_coco_metric_scores_every_sample_as_an_image_of_its_own():
    pytest.importorskip("mmpose")
    evaluator = VisionPromptEvaluator(DotsCodec(), dict(type="mmpose.CocoMetric"), prefix="pose")
    samples = [person_sample(person(range(17), 3), person(), index) for index in range(3)]
    result = score(evaluator, *samples)
    # An image and its annotation counted from 0 must match too: COCO's evaluation reads annotation 0 as "no match".
    assert result["pose/ceiling/coco/AP"] == pytest.approx(1)
    # exp(-d^2 / (2 area (2 sigma)^2)), area 100 x 60: similarity 0.928, over the thresholds 0.5 to 0.9 of ten.
    assert np.exp(-9 / (2 * 6000 * 0.1**2)) == pytest.approx(0.928, abs=1e-3)
    assert result["pose/coco/AP"] == pytest.approx(0.9)


def test_coco_metric_scores_what_was_drawn_whatever_data_sets_were_built_before(tmp_path):
    """mmpose's data sets leave their annotation file in the MessageHub; here with an id that a sample has too."""
    pytest.importorskip("mmpose")
    far = dict(id=1, image_id=0, category_id=1, iscrowd=0, bbox=[0, 0, 9, 9], area=81, num_keypoints=17)
    far["keypoints"] = [900, 900, 2] * 17
    content = dict(
        images=[dict(id=0, width=999, height=999)], annotations=[far], categories=[dict(id=1, name="person")]
    )
    path = tmp_path / "people.json"
    path.write_text(json.dumps(content))
    hub = MessageHub.get_current_instance()
    hub.update_info("dots_ann_file", str(path))
    try:
        evaluator = VisionPromptEvaluator(DotsCodec(), dict(type="mmpose.CocoMetric"), ceiling=False)
        assert score(evaluator, person_sample(person(), person()))["coco/AP"] == pytest.approx(1)
        assert hub.get_info("dots_ann_file") == str(path), "it is mmpose's own, and stays"
        # Scored again, by the truth of these samples and not of the first.
        moved = person(range(17), 12)
        assert score(evaluator, person_sample(moved, moved, truth=moved))["coco/AP"] == pytest.approx(1)
    finally:
        hub.runtime_info.pop("dots_ann_file")
    with pytest.raises(ValueError, match=r"mmpose\.CocoMetric has ann_file='people\.json'"):
        VisionPromptEvaluator(DotsCodec(), dict(type="mmpose.CocoMetric", ann_file="people.json"))


def test_coco_metric_uses_the_area_of_the_outline_where_the_truth_has_it():
    pytest.importorskip("mmpose")
    codec = SkeletonCodec(radius=4, thickness=2)
    keypoints = np.random.RandomState(0).uniform(40, 210, (1, 17, 2)).astype(np.float32)
    truth = dict(keypoints=keypoints, keypoints_visible=np.ones((1, 17)), img_shape=(256, 256))
    prediction = dict(keypoints=keypoints + 6, keypoint_scores=np.ones((1, 17)))
    codec.decode = lambda image: prediction
    similarity = []
    for area in (dict(), dict(area=[300.0])):
        evaluator = VisionPromptEvaluator(codec, dict(type="mmpose.CocoMetric"), ceiling=False)
        image = np.zeros((256, 256, 3), np.uint8)
        evaluator.process([dict(annotation=truth | area, pred_image=image, sample_idx=0)])
        similarity.append(evaluator.evaluate(1)["coco/AP"])
    assert similarity[0] > similarity[1], "a smaller person makes the same error weigh more"


def test_several_metrics_of_different_toolboxes_work_side_by_side():
    pytest.importorskip("mmpose")
    metrics = [dict(type="mmpose.PCKAccuracy", thr=0.1), dict(type="mmpose.EPE")]
    result = score(VisionPromptEvaluator(DotsCodec(), metrics), person_sample(person(range(17), 4), person()))
    assert result["EPE"] == pytest.approx(4) and result["ceiling/EPE"] == pytest.approx(0)
    assert result["PCK"] == result["ceiling/PCK"] == pytest.approx(1)


def test_restored_images_are_scored():
    truth = np.full((16, 16, 3), 100, np.uint8)
    evaluator = VisionPromptEvaluator(
        dict(type="RestorationCodec"), dict(type="RestorationMetric", prefix=""), prefix="derain"
    )
    sample = dict(annotation=truth, pred_image=truth + 10, ceiling_image=truth + 5)
    result = score(evaluator, sample)
    assert result["derain/restoration/PSNR"] == pytest.approx(20 * np.log10(255 / 10))
    assert result["derain/ceiling/restoration/PSNR"] == pytest.approx(20 * np.log10(255 / 5))


class Recorder(BaseMetric):
    default_prefix = "recorder"

    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        return dict(count=len(results))


def test_metrics_get_tensors_of_pixels_and_the_names_of_the_sample():
    recorder = Recorder()
    evaluator = VisionPromptEvaluator(ForegroundMaskCodec(), recorder)
    evaluator.process([mask_sample(mask(2), mask(1), mask(2), 7)])
    (fields,) = recorder.results
    assert fields["sample_idx"] == 7 and fields["task"] == "seg" and fields["img_path"] == "7.png"
    assert torch.equal(fields["pred_sem_seg"]["data"], torch.from_numpy(mask(1))[None].long())
    # The copy for the ceiling has its own results.
    (of_ceiling,) = evaluator.ceiling_metrics[0].results
    assert torch.equal(of_ceiling["pred_sem_seg"]["data"], torch.from_numpy(mask(2))[None].long())


def test_metrics_know_the_meta_information_of_the_codec_whatever_the_data_set_says():
    evaluator = VisionPromptEvaluator(ForegroundMaskCodec(), Recorder())
    expected = ("background", "foreground")
    assert evaluator.metrics[0].dataset_meta["classes"] == expected
    evaluator.dataset_meta = dict(classes=("aeroplane", "bicycle"), split="fold 0")
    for metric in [*evaluator.metrics, *evaluator.ceiling_metrics]:
        assert metric.dataset_meta["classes"] == expected and metric.dataset_meta["split"] == "fold 0"
    evaluator.dataset_meta = None
    assert evaluator.dataset_meta["classes"] == expected


def test_evaluating_again_starts_from_nothing():
    evaluator = VisionPromptEvaluator(ForegroundMaskCodec(), Recorder(), prefix="seg")
    for _ in range(2):
        assert score(evaluator, mask_sample(mask(1), mask(1), mask(1))) == {
            "seg/recorder/count": 1,
            "seg/ceiling/recorder/count": 1,
        }


def test_the_runner_builds_it_from_a_config():
    pytest.importorskip("mmseg")
    codec = dict(type="ForegroundMaskCodec", foreground=(255, 0, 0))
    config = ConfigDict(type="VisionPromptEvaluator", codec=codec, metrics=[dict(type="mmseg.IoUMetric")])
    with DefaultScope.overwrite_default_scope("delvm_mm"):
        evaluator = Runner.build_evaluator(None, config)
    assert isinstance(evaluator, VisionPromptEvaluator) and evaluator.codec.foreground == (255, 0, 0)
    assert isinstance(EVALUATOR.build(config), VisionPromptEvaluator)


@pytest.mark.parametrize(
    ("missing", "ceiling", "message"),
    [
        ("pred_image", True, "'3.png' has no pred_image.*DeLVM.predict"),
        ("ceiling_image", True, "'3.png' has no ceiling_image.*ceiling=False"),
        ("annotation", False, "'3.png' has no annotation.*VisionPromptDataset"),
    ],
)
def test_a_sample_without_what_is_needed_is_refused_and_nothing_is_counted(missing, ceiling, message):
    sample = mask_sample(mask(1), mask(1), mask(1), 3).to_dict()
    whole = dict(sample)
    del sample[missing]
    evaluator = VisionPromptEvaluator(ForegroundMaskCodec(), Recorder(), ceiling=ceiling)
    with pytest.raises(ValueError, match=message):
        evaluator.process([whole, sample])
    assert not evaluator.metrics[0].results


def test_a_sample_without_a_ceiling_is_fine_where_none_is_asked_for():
    sample = mask_sample(mask(1), mask(1), mask(1)).to_dict()
    del sample["ceiling_image"]
    evaluator = VisionPromptEvaluator(ForegroundMaskCodec(), Recorder(), ceiling=False)
    assert score(evaluator, sample) == {"recorder/count": 1}


def test_a_missing_toolbox_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmseg", None)
    with pytest.raises(ImportError, match="mmseg is needed here and is not installed"):
        VisionPromptEvaluator(ForegroundMaskCodec(), dict(type="mmseg.IoUMetric"))


def test_two_thresholds_of_one_metric_are_told_apart_by_them():
    pytest.importorskip("mmpose")
    metrics = [dict(type="mmpose.PCKAccuracy", thr=thr) for thr in (0.1, 0.2)] + [dict(type="mmpose.EPE")]
    evaluator = VisionPromptEvaluator(DotsCodec(), metrics, prefix="pose")
    result = score(evaluator, person_sample(person([0], 11), person([0], 21)))
    assert result["pose/PCK(thr=0.1)"] == pytest.approx(16 / 17) and result["pose/PCK(thr=0.2)"] == 1
    assert result["pose/ceiling/PCK(thr=0.2)"] == pytest.approx(16 / 17) and "pose/EPE" in result


def test_metrics_of_one_name_are_refused():
    evaluator = VisionPromptEvaluator(ForegroundMaskCodec(), [Recorder(), Recorder()])
    with pytest.raises(ValueError, match="same metric name"):
        score(evaluator, mask_sample(mask(1), mask(1), mask(1)))


def rank_of_two(rank, init_file, results):
    torch.distributed.init_process_group("gloo", f"file://{init_file}", world_size=2, rank=rank)
    logging.disable(logging.INFO)
    try:
        evaluator = VisionPromptEvaluator(ForegroundMaskCodec(), dict(type="mmseg.IoUMetric"), prefix="seg")
        # Samples 0, 2 here and 1, 0 there: three in all, and one that fills up the second process's share.
        rows = {0: (2, 1), 1: (3, 0), 2: (1, 4)}
        for index in (rank, 2 - 2 * rank):
            truth, drawn = rows[index]
            evaluator.process([mask_sample(mask(truth), mask(drawn), mask(truth), index)])
        results.put((rank, evaluator.evaluate(size=3)))
    finally:
        torch.distributed.destroy_process_group()


def test_results_of_several_processes_come_together_without_the_padding(tmp_path):
    pytest.importorskip("mmseg")
    # Imported before the fork: the two processes need not import it again.
    VisionPromptEvaluator(ForegroundMaskCodec(), dict(type="mmseg.IoUMetric"))
    context = torch.multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [context.Process(target=rank_of_two, args=(rank, tmp_path / "init", results)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    result = dict(results.get() for _ in processes)
    # Of 12 rows both have 1 + 0 + 1 as foreground, either has 2 + 3 + 4.
    foreground, background = 2 / 9, (12 - 9) / (12 - 2)
    for rank in range(2):
        assert result[rank]["seg/mIoU"] == pytest.approx(100 * (foreground + background) / 2, abs=0.01)
        assert result[rank]["seg/ceiling/mIoU"] == 100


def coco_file(folder):
    """A COCO file with two to three labeled people an image, a crowd, a person without keypoints, an empty image."""
    path = write_coco_pose(folder, num_images=4)
    content = json.loads(path.read_text())
    first = content["images"][0]["id"]
    unlabeled = dict(iscrowd=0, category_id=1, keypoints=[0] * 51, num_keypoints=0, image_id=first, segmentation=[])
    content["annotations"] += [
        unlabeled | dict(id=7001, bbox=[60, 10, 20, 30], area=300.0),
        unlabeled | dict(id=7002, bbox=[2, 40, 30, 20], area=400.0, iscrowd=1),
    ]
    path.write_text(json.dumps(content))
    return path


def answers_for(sample, rng):
    """The truth a little off, somebody in the crowd, somebody without truth; keypoints N x 17 x 2 of the original."""
    truth = sample["ori_annotation"]["keypoints"] + rng.normal(0, 0.7, sample["ori_annotation"]["keypoints"].shape)
    crowd = np.tile([[17.0, 50.0]], (1, 17, 1)) + rng.uniform(-6, 6, (1, 17, 2))
    nobody = np.tile([[80.0, 60.0]], (1, 17, 1)) + rng.uniform(-9, 9, (1, 17, 2))
    return np.concatenate([truth, crowd, nobody]).astype(np.float32)


def oracle(path, detections):
    """COCO's AP and AR by pycocotools on the file itself."""
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        evaluation = COCOeval(coco, coco.loadRes(detections), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0], evaluation.stats[5]


def test_bottom_up_answers_have_the_ap_of_pycocotools_on_the_file(tmp_path):
    pytest.importorskip("mmpose")
    path, rng = coco_file(tmp_path), np.random.default_rng(0)
    codec = SkeletonCodec(max_people=20)
    pipeline = [LoadImage(), KeepAnnotation(codec), Letterbox(160), DrawLabel(codec)]
    dataset = CocoPoseDataset(path.parents[1], ignored=True, pipeline=pipeline)
    assert len(dataset) == 4, "the image without people is one in which each answer is wrong"
    evaluator = VisionPromptEvaluator(
        codec, dict(type="mmpose.CocoMetric", nms_mode="none"), ceiling=False, trivial=False, original=True
    )
    detections = []
    for number in range(len(dataset)):
        sample = dataset[number]
        people, scores = answers_for(sample, rng), np.float32(rng.uniform(0.5, 1, (len(sample["bbox"]) + 2, 1)))
        moved = people @ sample["affine"][:, :2].T + sample["affine"][:, 2]
        visible = np.ones(people.shape[:2], np.float32)
        codec.decode = lambda image, moved=moved, visible=visible, scores=scores: dict(
            keypoints=moved, keypoint_scores=visible * scores, keypoints_visible=visible, img_shape=(160, 160)
        )
        evaluator.process([{**sample, "pred_image": sample["label"]}])
        for person, score_of_one in zip(people, scores[:, 0], strict=True):
            points = np.column_stack([person, np.ones(17)]).ravel().tolist()
            # CocoMetric: mean score of the keypoints, times how sure the codec is of the person, which is the same
            entry = dict(image_id=sample["img_id"], category_id=1, keypoints=points, score=float(score_of_one) ** 2)
            detections.append(entry)
    result = evaluator.evaluate(len(dataset))
    ap, ar = oracle(path, detections)
    assert 0.2 < ap < 0.98
    assert result["coco/AP"] == pytest.approx(ap, abs=1e-3) and result["coco/AR"] == pytest.approx(ar, abs=1e-3)


def test_people_cut_out_one_by_one_are_scored_in_their_image(tmp_path):
    pytest.importorskip("mmpose")
    path, rng = coco_file(tmp_path), np.random.default_rng(1)
    codec = SkeletonCodec(radius=4, thickness=2)
    pipeline = [LoadImage(), KeepAnnotation(codec), CropPerson(), ResizeShortSide(128), DrawLabel(codec)]
    dataset = CocoPoseDataset(path.parents[1], per_person=True, ignored=True, pipeline=pipeline)
    evaluator = VisionPromptEvaluator(
        codec, dict(type="mmpose.CocoMetric", nms_mode="none"), ceiling=False, trivial=False, original=True
    )
    detections = []
    for number in range(len(dataset)):
        sample = dataset[number]
        person = sample["ori_annotation"]["keypoints"][0] + rng.normal(0, 2, (17, 2))
        moved = person @ sample["affine"][:, :2].T + sample["affine"][:, 2]
        sure = float(rng.uniform(0.5, 1))
        codec.decode = lambda image, moved=moved, sure=sure: dict(
            keypoints=moved[None].astype(np.float32), keypoint_scores=np.full((1, 17), sure, np.float32)
        )
        evaluator.process([{**sample, "pred_image": sample["label"]}])
        points = np.column_stack([person, np.ones(17)]).ravel().tolist()
        detections.append(dict(image_id=sample["img_id"], category_id=1, keypoints=points, score=sure))
    images = {fields["img_id"] for fields, _ in evaluator.metrics[0].results}
    assert len(images) < len(dataset), "several people of one image"
    ap, ar = oracle(path, detections)
    result = evaluator.evaluate(len(dataset))
    assert 0.2 < ap < 1
    assert result["coco/AP"] == pytest.approx(ap, abs=1e-3) and result["coco/AR"] == pytest.approx(ar, abs=1e-3)
