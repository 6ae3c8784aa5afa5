"""All people of an image, drawn and read back: clean and degraded, with hidden shoulders, and COCO's own images."""

import numpy as np
import pytest

from delvm_mm.codecs import KeypointDiscsCodec, SkeletonCodec
from helpers.poses import as_jpeg, blurred, clean, darkened, drifted, noisy, random_pose
from tools.analysis import read_back_people

CODEC = SkeletonCodec(radius=3, thickness=1.5, max_people=20)


def random_people(rng, size, count):
    """Poses side by side that overlap a little, N x 17 x 2."""
    width = size / count
    people = [random_pose(rng, size, (0.35, 0.55)) for _ in range(count)]
    return np.stack(
        [pose - [pose[:, 0].mean() - (number + 0.5) * width, 0] for number, pose in enumerate(people)]
    ).clip(0, size - 1)


def annotation(people, size, visible=None):
    seen = np.ones(people.shape[:2]) if visible is None else visible
    return dict(keypoints=people, keypoints_visible=seen, img_shape=(size, size))


def found(read, people, visible):
    """Of each person the part of visible keypoints that the most alike answer has within 0.1 of the longer side."""
    parts = []
    for person, seen in zip(people, visible, strict=True):
        near = np.linalg.norm(read["keypoints"] - person, axis=2) <= 0.1 * np.ptp(person, axis=0).max()
        parts.append(max((near & (read["keypoint_scores"] > 0))[:, seen].mean(1), default=0.0))
    return parts


@pytest.mark.parametrize(
    ("degrade", "count", "least"),
    [
        (clean, 40, 0.84),
        (noisy, 20, 0.83),
        (blurred, 20, 0.74),
        (as_jpeg, 20, 0.72),
        (drifted, 20, 0.75),
        (darkened, 20, 0.82),
    ],
)
def test_two_to_four_people_are_read_back(degrade, count, least):
    rng, parts, too_many = np.random.default_rng(0), [], 0
    for _ in range(count):
        people = random_people(rng, 256, int(rng.integers(2, 5)))
        read = CODEC.decode(degrade(CODEC.encode(annotation(people, 256)), rng))
        parts += found(read, people, np.ones(people.shape[:2], bool))
        too_many += int((read["keypoint_scores"] > 0).sum(1).__gt__(8).sum() > len(people))
    assert np.mean(parts) > least
    assert too_many <= (0.1 if degrade in (clean, noisy) else 0.45) * count, "whole people who are not there"


def test_what_no_limb_joins_comes_together_by_reach():
    """Without the left shoulder there is no neck: face, arm and both legs are on their own."""
    rng, parts = np.random.default_rng(1), []
    for _ in range(30):
        people = random_people(rng, 256, 2)
        visible = np.ones((2, 17), bool)
        visible[:, [5, 7, 9]] = False
        read = CODEC.decode(CODEC.encode(annotation(people, 256, visible)))
        parts += found(read, people, visible)
    assert np.mean(parts) > 0.81


def test_single_keypoints_and_nobody():
    people = np.zeros((1, 17, 2))
    people[0, 12] = (40, 50)
    visible = np.zeros((1, 17), bool)
    visible[0, 12] = True
    read = CODEC.decode(CODEC.encode(annotation(people, 96, visible)))
    assert read["keypoint_scores"].shape == (1, 17) and np.flatnonzero(read["keypoint_scores"][0]).tolist() == [12]
    np.testing.assert_allclose(read["keypoints"][0, 12], (40, 50), atol=0.3)
    assert np.isfinite(read["keypoints"]).all()
    nobody = CODEC.decode(np.zeros((40, 50, 3), np.uint8))
    assert nobody["keypoints"].shape == (0, 17, 2) and nobody["img_shape"] == (40, 50)
    fields = CODEC.to_fields(annotation(np.zeros((0, 17, 2)), 40), nobody)
    # CocoMetric wants an answer: somebody far outside, without a score
    assert fields["pred_instances"]["bbox_scores"].tolist() == [0]
    assert (fields["pred_instances"]["keypoints"] < -100).all() and len(fields["gt_instances"]["keypoints"]) == 0


def test_any_image_gives_finite_people():
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    for any_image in (image, blurred(image, None), np.full((30, 30, 3), 255, np.uint8)):
        read = CODEC.decode(any_image)
        assert np.isfinite(read["keypoints"]).all() and len(read["keypoints"]) <= 20


def test_the_best_seen_people_are_kept():
    rng = np.random.default_rng(2)
    people = random_people(rng, 256, 3)
    visible = np.ones((3, 17), bool)
    visible[1, 5:] = False
    image = CODEC.encode(annotation(people, 256, visible))
    two = SkeletonCodec(radius=3, thickness=1.5, max_people=2).decode(image)
    assert len(two["keypoints"]) == 2
    assert np.mean(found(two, people[[0, 2]], visible[[0, 2]])) > 0.75


def test_the_drawing_of_several_people_and_the_reading_of_one_stay():
    people = annotation(random_people(np.random.default_rng(3), 256, 2), 256)
    one = SkeletonCodec(radius=3, thickness=1.5)
    image = CODEC.encode(people)
    np.testing.assert_array_equal(image, one.encode(people))
    assert one.decode(image)["keypoints"].shape == (1, 17, 2)
    # the mean of several labels is one person, whoever is read
    assert CODEC.decode_mean(np.stack([image, image]))["keypoints"].shape == (1, 17, 2)


def test_how_many_has_to_be_a_number():
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="max_people is"):
            SkeletonCodec(max_people=wrong)
    with pytest.raises(TypeError, match="max_people"):
        KeypointDiscsCodec(max_people=3)


def test_all_people_of_coco_images_have_the_ap_that_the_docs_say(shared):
    pytest.importorskip("mmpose")
    folder = shared / "data" / "coco_mini"
    if not folder.is_dir():
        pytest.skip(f"no images of COCO at {folder}")
    args = read_back_people.parse_args([str(folder)])
    assert read_back_people.score(args, size=512, radius=2.0)["coco/AP"] >= 0.85
