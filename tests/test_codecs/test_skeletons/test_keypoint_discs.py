"""KeypointDiscsCodec: what is drawn, and what is read back from clean and degraded small images."""

import numpy as np
import pytest

from delvm_mm.codecs import KeypointDiscsCodec, SkeletonCodec
from delvm_mm.datasets import ProceduralScenes
from delvm_mm.registry import TASK_UTILS
from helpers.poses import as_jpeg, blurred, clean, noisy, person, random_pose

SIZE = 96


def dimmed(image, rng):
    return (image * 0.85).astype(np.uint8)


def part_found(codec, degrade, count):
    """The part of keypoints that are said to be there and are within 0.2 of the longer side of the person's box."""
    rng, hits = np.random.default_rng(0), []
    for _ in range(count):
        pose = random_pose(rng, SIZE)
        read = codec.decode(degrade(codec.encode(person(pose, SIZE)), rng))
        near = np.linalg.norm(read["keypoints"][0] - pose, axis=1) <= 0.2 * np.ptp(pose, axis=0).max()
        hits.append(near & (read["keypoint_scores"][0] > 0))
    return np.mean(hits)


@pytest.mark.parametrize(
    ("degrade", "least"), [(clean, 0.99), (blurred, 0.97), (as_jpeg, 0.97), (noisy, 0.99), (dimmed, 0.99)]
)
def test_random_poses_are_read_back_at_96_px(degrade, least):
    assert part_found(KeypointDiscsCodec(), degrade, 60) >= least


def test_more_is_read_back_than_of_skeletons_of_that_size():
    assert part_found(KeypointDiscsCodec(), clean, 30) > part_found(SkeletonCodec(radius=3, thickness=3), clean, 30)


def test_people_of_scenes_are_read_back_and_nothing_that_is_not_there():
    codec = KeypointDiscsCodec()
    for scene in (ProceduralScenes(task="pose", size=SIZE, start=7, length=20)[index] for index in range(20)):
        read = codec.decode(codec.encode(codec.annotation_of(scene)))
        seen = scene["keypoints_visible"][0] > 0
        np.testing.assert_array_equal(read["keypoints_visible"][0] > 0, seen)
        box = scene["bbox"][0]
        off = np.linalg.norm(read["keypoints"][0] - scene["keypoints"][0], axis=1)[seen]
        assert off.max() <= 0.2 * max(box[2:] - box[:2])


def test_keypoints_of_one_place_are_all_seen():
    codec = KeypointDiscsCodec()
    read = codec.decode(codec.encode(person(np.full((17, 2), 48.0), SIZE)))
    assert read["keypoint_scores"].min() > 0
    assert np.abs(read["keypoints"] - 48).max() < 30


def test_places_are_rounded_to_the_grid():
    codec = KeypointDiscsCodec(radius=4, spacing=0, grid=4)
    alone = np.eye(17)[0]
    images = [codec.encode(person(np.full((17, 2), place), SIZE, alone)) for place in (41.0, 42.6, 43.6)]
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()
    assert codec.decode(images[0])["keypoints"][0, 0].tolist() == [41.5, 41.5]


def test_discs_have_their_colors_and_the_rest_is_black():
    codec = KeypointDiscsCodec()
    pose = np.stack([10 + 20 * (np.arange(17) % 4), 10 + 18 * (np.arange(17) // 4)], 1).astype(float)
    image = codec.encode(person(pose, SIZE))
    for (x, y), color in zip(pose.astype(int), codec.palette, strict=True):
        assert tuple(image[y, x]) == color
    assert (image.max(-1) == 0).mean() > 0.8


def test_keypoints_outside_or_invisible_are_not_drawn():
    codec = KeypointDiscsCodec()
    pose = np.full((17, 2), -30.0)
    assert not codec.encode(person(pose, SIZE)).any()
    assert not codec.encode(person(pose + 60, SIZE, np.zeros(17))).any()
    for level in (0, 128):
        assert codec.decode(np.full((32, 48, 3), level, np.uint8))["keypoint_scores"].max() == 0


def test_the_registry_builds_it_from_a_config():
    codec = TASK_UTILS.build(dict(type="KeypointDiscsCodec", radius=6, spacing=3, grid=0))
    assert (codec.radius, codec.spacing, codec.grid) == (6, 3, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(radius="8"), "radius is '8', expected a number"),
        (dict(radius=0.5), "radius is 0.5, expected at least 1 pixel"),
        (dict(spacing=9), "spacing is 9, expected 0 to the radius, 5, in pixels"),
        (dict(grid=-1), "grid is -1, expected 0 to twice the radius, 10, in pixels"),
        (dict(visible_thr=1), "visible_thr is 1, expected a value in"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        KeypointDiscsCodec(**arguments)


def test_its_name_stands_in_its_messages():
    with pytest.raises(ValueError, match=r"KeypointDiscsCodec\.encode: keypoints are"):
        KeypointDiscsCodec().encode(dict(keypoints=np.zeros((1, 5, 2)), keypoints_visible=[[1]], img_shape=(8, 8)))
