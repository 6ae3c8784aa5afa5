"""SkeletonCodec: what is drawn, what is read back from clean and degraded images, and mmpose's metrics on it."""

import json

import cv2
import numpy as np
import pytest

from delvm_mm.codecs import SkeletonCodec, mpii_to_coco
from delvm_mm.registry import TASK_UTILS
from helpers.poses import as_jpeg, blurred, clean, darkened, drifted, noisy, person, random_pose


def part_found(codec, size, degrade, count):
    """PCK@0.1: the part of keypoints within 0.1 of the longer side of the person's box."""
    rng, hits = np.random.default_rng(0), []
    for _ in range(count):
        pose = random_pose(rng, size)
        read = codec.decode(degrade(codec.encode(person(pose, size)), rng))["keypoints"][0]
        hits.append(np.linalg.norm(read - pose, axis=1) <= 0.1 * np.ptp(pose, axis=0).max())
    return np.mean(hits)


@pytest.mark.parametrize(
    ("degrade", "count", "least"),
    [
        (clean, 250, 0.97),
        (blurred, 100, 0.95),
        (as_jpeg, 100, 0.95),
        (noisy, 100, 0.96),
        (drifted, 100, 0.9),
        (darkened, 50, 0.95),
    ],
)
def test_random_poses_are_read_back_at_256_px(degrade, count, least):
    assert part_found(SkeletonCodec(), 256, degrade, count) >= least


@pytest.mark.parametrize(("degrade", "least"), [(clean, 0.98), (blurred, 0.965), (as_jpeg, 0.96), (drifted, 0.93)])
def test_smaller_discs_hide_less_at_256_px(degrade, least):
    assert part_found(SkeletonCodec(radius=4, thickness=2), 256, degrade, 30) >= least


@pytest.mark.parametrize(
    ("thickness", "degrade", "least"),
    [(1, clean, 0.92), (1, noisy, 0.92), (1, as_jpeg, 0.75), (2, clean, 0.92), (2, as_jpeg, 0.72)],
)
def test_random_poses_are_read_back_at_64_px(thickness, degrade, least):
    assert part_found(SkeletonCodec(radius=2, thickness=thickness), 64, degrade, 30) >= least


def test_clean_positions_are_exact_to_half_a_pixel_where_nothing_overlaps():
    codec, rng = SkeletonCodec(), np.random.default_rng(0)
    y, x = np.divmod(np.arange(17), 5)
    grid = np.stack([30 + 45 * x, 30 + 45 * y], -1).astype(float)
    errors = []
    for _ in range(20):
        pose = grid + rng.uniform(-5, 5, grid.shape)
        read = codec.decode(codec.encode(person(pose, 256)))
        errors.append(np.linalg.norm(read["keypoints"][0] - pose, axis=1))
    assert np.median(errors) < 0.5


def test_keypoints_that_were_not_drawn_get_a_low_score_and_finite_places():
    codec, rng = SkeletonCodec(radius=4, thickness=2), np.random.default_rng(3)
    drawn, missing = [], []
    for _ in range(40):
        visible = rng.random(17) > 0.25
        read = codec.decode(codec.encode(person(random_pose(rng, 256, (0.7, 0.95)), 256, visible)))
        assert np.isfinite(read["keypoints"]).all()
        assert read["keypoint_scores"].min() >= 0
        assert read["keypoint_scores"].max() <= 1
        drawn.extend(read["keypoint_scores"][0][visible])
        missing.extend(read["keypoint_scores"][0][~visible])
    assert np.mean(np.array(missing) < 0.1) > 0.95
    assert np.mean(np.array(drawn) > 0.3) > 0.95


def test_nothing_is_found_in_empty_and_gray_images():
    codec = SkeletonCodec()
    for level in (0, 128, 255):
        read = codec.decode(np.full((32, 48, 3), level, np.uint8))
        assert read["keypoint_scores"].max() == 0
        assert np.isfinite(read["keypoints"]).all()
        assert read["keypoints_visible"].shape == (1, 17)
        assert read["img_shape"] == (32, 48)


def test_any_image_gives_finite_points():
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    read = SkeletonCodec(radius=3, thickness=1).decode(cv2.GaussianBlur(image, (0, 0), 3))
    assert np.isfinite(read["keypoints"]).all()


def test_discs_and_limbs_have_openpose_colors():
    pose = np.zeros((17, 2))
    visible = np.zeros(17)
    pose[[5, 7, 9]] = [[40, 40], [40, 120], [100, 120]]  # left shoulder, elbow, wrist
    visible[[5, 7, 9]] = 1
    image = SkeletonCodec().encode(person(pose, 160, visible))
    assert image[40, 40].tolist() == [85, 255, 0]
    assert image[120, 40].tolist() == [0, 255, 0]
    assert image[120, 100].tolist() == [0, 255, 85]
    # limbs have 0.6 of their color: (170, 255, 0) and (85, 255, 0)
    assert image[80, 40].tolist() == [102, 153, 0]
    assert image[120, 70].tolist() == [51, 153, 0]
    # radius 8, and 4 to each side of the middle of a limb
    assert image[40, 33].any()
    assert not image[40, 30].any()
    assert image[80, 43].any()
    assert not image[80, 46].any()


def test_the_neck_needs_both_shoulders():
    pose = np.zeros((17, 2))
    pose[5], pose[6] = (90, 50), (30, 50)
    both, one = np.zeros(17), np.zeros(17)
    both[[5, 6]], one[5] = 1, 1
    assert SkeletonCodec().encode(person(pose, 120, both))[50, 60].tolist() == [255, 85, 0]
    assert not SkeletonCodec().encode(person(pose, 120, one))[50, 60].any()


def test_keypoints_outside_or_invisible_are_not_drawn_and_not_expected():
    codec = SkeletonCodec()
    pose = np.full((17, 2), np.nan)
    pose[0], pose[9] = (20, 20), (500, 20)
    visible = np.zeros(17)
    visible[[0, 9]] = 1
    annotation = person(pose, 64, visible)
    image = codec.encode(annotation)
    np.testing.assert_array_equal(image, codec.encode(person(pose, 64, np.arange(17) == 0)))
    fields = codec.to_fields(annotation, codec.decode(image))["gt_instances"]
    assert fields["keypoints_visible"].sum() == 1
    assert np.isfinite(fields["keypoints"]).all()


def test_several_people_are_drawn_and_one_of_them_is_read():
    codec, rng = SkeletonCodec(radius=4, thickness=2), np.random.default_rng(5)
    found = []
    for _ in range(20):
        left, right = random_pose(rng, 120), random_pose(rng, 120) + np.array([130, 100])
        both = dict(keypoints=np.stack([left, right]), keypoints_visible=np.ones((2, 17)), img_shape=(256, 256))
        image = codec.encode(both)
        assert (image[:120, :120].any(), image[100:, 130:].any()) == (True, True)
        read = codec.decode(image)["keypoints"][0]
        hits = [np.linalg.norm(read - pose, axis=1) <= 0.1 * np.ptp(pose, axis=0).max() for pose in (left, right)]
        found.append(max(np.mean(hits, axis=1)))
    assert np.mean(found) > 0.9


def test_no_people_is_an_empty_image_with_nothing_to_score():
    codec = SkeletonCodec()
    nobody = dict(keypoints=np.zeros((0, 17, 2)), keypoints_visible=np.zeros((0, 17)), img_shape=(32, 32))
    image = codec.encode(nobody)
    assert not image.any()
    assert codec.to_fields(nobody, codec.decode(image))["gt_instances"]["keypoints_visible"].sum() == 0


def test_mpii_joints_go_to_their_places_in_coco():
    keypoints = np.arange(32, dtype=float).reshape(1, 16, 2)
    moved, visible = mpii_to_coco(keypoints, np.ones((1, 16)))
    # MPII: 0 right ankle, 3 left hip, 10 right wrist, 13 left shoulder; COCO: 16, 11, 10, 5
    np.testing.assert_array_equal(moved[0, [16, 11, 10, 5]], keypoints[0, [0, 3, 10, 13]])
    assert visible[0].tolist() == [0] * 5 + [1] * 12
    single, seen = mpii_to_coco(keypoints[0], np.ones(16))
    assert (single.shape, seen.shape) == ((17, 2), (17,))
    with pytest.raises(ValueError, match="16, 2"):
        mpii_to_coco(np.zeros((1, 17, 2)), np.ones((1, 17)))


def coco_people(folder):
    content = json.loads((folder / "coco" / "test_coco.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for item in content["annotations"]:
        points = np.array(item["keypoints"], float).reshape(1, 17, 3)
        x, y, w, h = item["bbox"]
        box = np.array([[x, y, x + w, y + h]])
        visible = np.minimum(points[..., 2], 1)
        if visible.any():
            yield dict(
                keypoints=points[..., :2], keypoints_visible=visible, img_shape=sizes[item["image_id"]], bbox=box
            )


def mpii_people(folder):
    for item in json.loads((folder / "mpii" / "test_mpii.json").read_text()):
        image = cv2.imread(str(folder / "mpii" / item["image"]))
        keypoints, visible = mpii_to_coco(np.array([item["joints"]], float), np.array([item["joints_vis"]]))
        yield dict(keypoints=keypoints, keypoints_visible=visible, img_shape=image.shape[:2], head_size=50.0)


def scaled_to(annotation, side):
    """The person's own square, 1.25 times as large as its box, cut out and scaled to ``side``."""
    seen = annotation["keypoints"][annotation["keypoints_visible"] > 0]
    low, high = seen.min(0), seen.max(0)
    extent = 1.25 * (high - low).max() + 1
    scale = side / extent
    moved = (annotation["keypoints"] - (low + high - extent) / 2) * scale
    return dict(keypoints=moved, keypoints_visible=annotation["keypoints_visible"], img_shape=(side, side))


def whole_image(annotation, side):
    """The whole image with its longer side scaled to ``side``."""
    scale = side / max(annotation["img_shape"])
    moved = annotation | dict(
        keypoints=annotation["keypoints"] * scale,
        img_shape=tuple(round(length * scale) for length in annotation["img_shape"]),
    )
    return moved | ({"bbox": annotation["bbox"] * scale} if "bbox" in annotation else {})


def pck(codec, annotations):
    metrics = pytest.importorskip("mmpose.evaluation.metrics")
    metric = metrics.PCKAccuracy(thr=0.1, norm_item="bbox")
    metric.dataset_meta = codec.dataset_meta
    for annotation in annotations:
        truth = codec.annotation_of(annotation)
        metric.process([{}], [codec.to_fields(truth, codec.decode(codec.encode(truth)))])
    return metric.evaluate(len(annotations))["PCK"]


@pytest.mark.parametrize("people", [coco_people, mpii_people])
def test_pck_accuracy_on_real_people_at_256_px(shared, people):
    annotations = [scaled_to(annotation, 256) for annotation in people(shared / "samples")]
    assert pck(SkeletonCodec(radius=4, thickness=2), annotations) >= 0.97


# Small people in crowds have joints that are drawn over and not found; those count as wrong.
PEOPLE = [(coco_people, 0.87), (mpii_people, 0.97)]


@pytest.mark.parametrize(("people", "least"), PEOPLE)
def test_pck_accuracy_on_small_people_in_whole_images_at_256_px(shared, people, least):
    # The radius shrinks with the image, from 8 at COCO's 640 px to 3: the smallest person here is 33 px high.
    annotations = [whole_image(annotation, 256) for annotation in people(shared / "samples")]
    assert pck(SkeletonCodec(radius=3, thickness=1.5), annotations) >= least


@pytest.mark.parametrize(("people", "least"), PEOPLE)
def test_pck_accuracy_on_real_people_on_the_canvas_of_their_image(shared, people, least):
    annotations = list(people(shared / "samples"))
    assert pck(SkeletonCodec(), annotations) >= least


def test_pck_accuracy_reads_all_three_norms():
    metrics = pytest.importorskip("mmpose.evaluation.metrics")
    codec = SkeletonCodec(radius=4, thickness=2)
    pose = random_pose(np.random.default_rng(1), 256, (0.9, 0.95))
    truth = person(pose, 256) | dict(head_size=30.0, bbox=np.array([[0, 0, 255, 255]]))
    metric = metrics.PCKAccuracy(thr=0.2, norm_item=["bbox", "head", "torso"])
    metric.process([{}], [codec.to_fields(truth, codec.decode(codec.encode(truth)))])
    result = metric.evaluate(1)
    assert set(result) == {"PCK", "PCKh", "tPCK"}
    assert result["PCK"] > 0.9


def test_of_several_people_the_largest_is_scored():
    codec, rng = SkeletonCodec(), np.random.default_rng(0)
    small, large = random_pose(rng, 100), random_pose(rng, 256, (0.9, 0.95))
    truth = dict(
        keypoints=np.stack([small, large]),
        keypoints_visible=np.full((2, 17), 2),
        img_shape=(256, 256),
        head_size=[10, 20],
    )
    prediction = dict(keypoints=large[None], keypoint_scores=np.ones((1, 17)))
    chosen = codec.to_fields(truth, prediction)["gt_instances"]
    np.testing.assert_allclose(chosen["keypoints"], large[None], rtol=1e-5)
    np.testing.assert_allclose(chosen["bboxes"][0], [*large.min(0), *large.max(0)], rtol=1e-5)
    assert chosen["head_size"].tolist() == [20]


def test_the_registry_builds_it_from_a_config():
    codec = TASK_UTILS.build(dict(type="SkeletonCodec", radius=4, thickness=2))
    assert (codec.radius, codec.thickness, codec.background) == (4, 2, (0, 0, 0))
    assert len(set(codec.palette)) == 18


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(radius="8"), ValueError, "radius"),
        (dict(radius=0), ValueError, "radius"),
        (dict(radius=4, thickness=5), ValueError, "thickness"),
        (dict(visible_thr=1), ValueError, "visible_thr"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        SkeletonCodec(**arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(keypoints=np.zeros((1, 16, 2))), ValueError, "mpii_to_coco"),
        (dict(keypoints=np.zeros((17, 2))), ValueError, "17, 2"),
        (dict(keypoints=np.full((1, 17, 2), np.nan)), ValueError, "NaN"),
        (dict(keypoints=np.full((1, 17, 2), "a")), TypeError, "numbers"),
        (dict(keypoints_visible=np.ones((2, 17))), ValueError, "keypoints_visible"),
        (dict(keypoints_visible=np.full((1, 17), np.nan)), ValueError, "NaN"),
        (dict(img_shape=(0, 10)), ValueError, "img_shape"),
        (dict(img_shape=(10.5, 10)), ValueError, "img_shape"),
    ],
)
def test_wrong_annotations_are_refused(change, error, message):
    good = dict(keypoints=np.zeros((1, 17, 2)), keypoints_visible=np.ones((1, 17)), img_shape=(64, 64))
    with pytest.raises(error, match=message):
        SkeletonCodec().encode(good | change)


def test_missing_keys_and_wrong_images_are_refused():
    codec = SkeletonCodec()
    good = person(np.zeros((17, 2)), 64)
    with pytest.raises(ValueError, match="needs 'img_shape' in the results dict"):
        codec.encode(dict(keypoints=good["keypoints"], keypoints_visible=good["keypoints_visible"]))
    with pytest.raises(TypeError, match="got a ndarray, expected a dict with"):
        codec.encode(good["keypoints"])
    with pytest.raises(ValueError, match="keypoints_visible"):
        codec.annotation_of(dict(keypoints=good["keypoints"]))
    with pytest.raises(ValueError, match=r"got shape \(64, 64\), expected an RGB image H x W x 3"):
        codec.decode(np.zeros((64, 64), np.uint8))
    with pytest.raises(TypeError, match="got dtype float32, expected uint8 RGB"):
        codec.decode(np.zeros((64, 64, 3), np.float32))
    with pytest.raises(ValueError, match=r"the prediction's keypoints are \(1, 16, 2\)"):
        codec.to_fields(good, dict(keypoints=np.zeros((1, 16, 2)), keypoint_scores=np.zeros((1, 16))))
    with pytest.raises(ValueError, match="2 boxes for 1 people, expected one"):
        codec.to_fields(good | dict(bbox=np.zeros((2, 4))), codec.decode(codec.encode(good)))
