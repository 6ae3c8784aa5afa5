"""Built-in data: the same scenes everywhere, with annotations that fit what is drawn."""

import cv2
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS

from delvm_mm.datasets.procedural import ProceduralScenes, scenes
from delvm_mm.datasets.procedural.drawing import multiply
from delvm_mm.datasets.procedural.people import draw_people, plan_people
from delvm_mm.registry import DATASETS

LEFT, RIGHT = [5, 7, 11, 13], [6, 8, 12, 14]  # shoulder, elbow, hip, knee in COCO's order
TASKS = ("seg", "pose", "derain", "image", "boxes", "depth")


def people_of(seed: int, count: int = 1):
    thumbnail = np.full((32, 32, 3), 128, dtype=np.uint8)
    return plan_people(np.random.Generator(np.random.PCG64(seed)), thumbnail, count)


@pytest.mark.parametrize("task", TASKS)
def test_a_sample_does_not_depend_on_window_order_or_opencv_threads(task):
    first = ProceduralScenes(task=task, size=64, seed=3, start=40, length=5)
    second = ProceduralScenes(task=task, size=64, seed=3, start=43, length=1)
    for index in (0, 4, 1):
        first[index]
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1 if threads != 1 else 2)
        other = second[0]
    finally:
        cv2.setNumThreads(threads)
    sample = first[3]
    assert sample.keys() == other.keys()
    for key, value in sample.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


def test_drawing_leaves_numpy_random_state_and_opencv_threads_alone():
    np.random.seed(5)
    before, threads = np.random.get_state()[1].copy(), cv2.getNumThreads()
    ProceduralScenes(task="derain", size=32)[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert cv2.getNumThreads() == threads


@pytest.mark.parametrize("task", TASKS)
def test_other_seeds_tasks_and_indices_give_other_images(task):
    scene = ProceduralScenes(task=task, size=32, seed=0, length=3)
    images = [scene[0]["img"], scene[1]["img"], ProceduralScenes(task=task, size=32, seed=1)[0]["img"]]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(images[first].astype(int) - images[second]).mean() > 5


@pytest.mark.parametrize("task", TASKS)
def test_the_scene_is_the_same_at_every_size(task):
    for index in range(4):
        small = ProceduralScenes(task=task, size=64)[index]
        large = ProceduralScenes(task=task, size=256)[index]
        reduced = cv2.resize(large["img"], (64, 64), interpolation=cv2.INTER_AREA)
        # Thin streaks and textures are sampled a little differently; another scene differs by tens of levels.
        assert np.abs(reduced.astype(int) - small["img"]).mean() < 6
        if task == "pose":
            np.testing.assert_array_equal(small["keypoints_visible"], large["keypoints_visible"])
            seen = small["keypoints_visible"] > 0
            np.testing.assert_allclose(
                (small["keypoints"][seen] + 0.5) / 64, (large["keypoints"][seen] + 0.5) / 256, atol=1e-5
            )
            np.testing.assert_allclose(small["bbox"] / 64, large["bbox"] / 256, atol=1e-5)
        if task == "boxes":
            np.testing.assert_allclose(small["bbox"] / 64, large["bbox"] / 256, atol=1.01 / 64)
        if task == "seg":
            mask = cv2.resize(large["gt_seg_map"] * 255, (64, 64), interpolation=cv2.INTER_AREA) > 127
            assert (mask != small["gt_seg_map"]).mean() < 0.01


@pytest.mark.parametrize("task", TASKS)
def test_fields_have_the_documented_types_shapes_and_ranges(task):
    scene = ProceduralScenes(task=task, size=48, start=7, length=2)[1]
    assert scene["img"].dtype == np.uint8 and scene["img"].shape == (48, 48, 3)
    assert scene["img_shape"] == scene["ori_shape"] == (48, 48)
    assert scene["sample_idx"] == 8 and scene["task"] == task
    assert scene["img_path"] == f"procedural/{task}/seed0/8"
    if task == "seg":
        assert scene["gt_seg_map"].dtype == np.uint8 and scene["gt_seg_map"].shape == (48, 48)
        assert set(np.unique(scene["gt_seg_map"])) == {0, 1}
    elif task == "pose":
        assert scene["keypoints"].dtype == scene["bbox"].dtype == scene["keypoints_visible"].dtype == np.float32
        assert scene["keypoints"].shape == (1, 17, 2) and scene["keypoints_visible"].shape == (1, 17)
        assert scene["bbox"].shape == (1, 4)
    elif task == "boxes":
        (box,) = scene["bbox"].astype(int)
        rows, columns = np.nonzero(scene["gt_seg_map"])
        assert scene["bbox"].dtype == np.float32
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    elif task == "depth":
        assert scene["gt_depth_map"].dtype == np.float32 and scene["gt_depth_map"].shape == (48, 48)
        assert scene["gt_depth_map"].min() >= 1.99 and scene["gt_depth_map"].max() <= 10
    elif task == "derain":
        assert scene["gt_img"].dtype == np.uint8 and scene["gt_img"].shape == (48, 48, 3)


def test_objects_cover_neither_next_to_nothing_nor_most_of_the_image():
    scene = ProceduralScenes(task="seg", size=32, length=200)
    cover = np.array([scene[index]["gt_seg_map"].mean() for index in range(len(scene))])
    assert cover.min() > 0.02 and cover.max() < 0.6
    assert 0.08 < cover.mean() < 0.3


def test_objects_stand_out_from_what_surrounds_them():
    scene = ProceduralScenes(task="seg", size=64, length=40)
    contrasts = []
    for index in range(len(scene)):
        sample = scene[index]
        inside = sample["gt_seg_map"].astype(bool)
        around = cv2.dilate(sample["gt_seg_map"], np.ones((11, 11), np.uint8)).astype(bool) & ~inside
        background = sample["img"][around].mean(axis=0)
        contrasts.append(np.abs(sample["img"][inside] - background).max(axis=1).mean())
    assert min(contrasts) > 40  # levels of 255, in the channel that differs most


def test_people_are_large_inside_the_frame_and_their_boxes_hold_their_keypoints():
    scene = ProceduralScenes(task="pose", size=64, length=60)
    for index in range(len(scene)):
        sample = scene[index]
        (x1, y1, x2, y2), seen = sample["bbox"][0], sample["keypoints_visible"][0] > 0
        assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 64
        assert 0.5 < (y2 - y1) / 64 < 0.98
        points = sample["keypoints"][0] + 0.5
        assert seen[5:].sum() >= 10
        assert (points[seen] >= (x1, y1)).all() and (points[seen] <= (x2, y2)).all()
        assert (sample["keypoints"][0][~seen] == 0).all()


def test_keypoints_lie_on_the_drawn_person_and_nothing_of_it_outside_the_box():
    canvas = 192
    hits = []
    for seed in range(25):
        people = people_of(seed)
        drawn = np.full((canvas, canvas, 3), (255, 0, 255), dtype=np.uint8)
        without = drawn.copy()
        people[0].shadow = (0.5, -5.0, 0.01, 0.01)
        people[0].parts = [part for part in people[0].parts if part.own]
        draw_people(drawn, people)
        body = (drawn != without).any(axis=-1)
        pixels = np.floor(people[0].keypoints[people[0].visible > 0] * canvas).astype(int)
        hits.extend(body[y, x] for x, y in pixels)
        rows, columns = np.nonzero(body)
        box = people[0].bbox * canvas
        np.testing.assert_allclose(
            (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), box, atol=2.5, err_msg=f"seed {seed}"
        )
    assert np.mean(hits) > 0.995


def test_left_is_at_the_right_of_a_frontal_view_and_at_the_left_from_behind():
    views = {"front": 0, "back": 0}
    for seed in range(150):
        person = people_of(seed)[0]
        toward = np.cos(np.radians(person.yaw))
        if abs(toward) < 0.9:
            continue
        view = "front" if toward > 0 else "back"
        views[view] += 1
        offset = (person.keypoints[LEFT] - person.keypoints[RIGHT])[[0, 2], 0]  # shoulders and hips
        assert (offset * np.sign(toward) > 0).all(), (seed, person.pose)
        # From behind the eyes and the nose are hidden, whichever way the head is turned.
        assert person.visible[:3].sum() >= 2 if view == "front" else person.visible[0] == 0
    assert min(views.values()) >= 8


def test_the_nose_is_between_the_ears_where_the_whole_face_is_seen():
    faces = [person for seed in range(60) for person in people_of(seed) if person.visible[:5].all()]
    assert len(faces) >= 5
    for person in faces:
        nose, left_ear, right_ear = person.keypoints[[0, 3, 4], 0]
        assert right_ear < nose < left_ear


def test_several_people_are_drawn_when_asked_for():
    scene = ProceduralScenes(task="pose", size=64, num_people=(2, 4), length=12)
    counts = {len(scene[index]["keypoints"]) for index in range(len(scene))}
    assert counts <= {2, 3, 4} and len(counts) >= 2
    sample = scene[0]
    people = len(sample["keypoints"])
    assert sample["bbox"].shape == (people, 4) and sample["keypoints_visible"].shape == (people, 17)


def test_rain_brightens_streaks_and_the_clean_image_does_not_depend_on_it(monkeypatch):
    scene = ProceduralScenes(task="derain", size=96, length=12)
    samples = [scene[index] for index in range(len(scene))]
    for sample in samples:
        change = sample["img"].astype(int).mean(-1) - sample["gt_img"].astype(int).mean(-1)
        streaks = change - np.median(change)
        assert (streaks > 12).mean() > 0.01
        assert 1.0 < np.abs(sample["img"].astype(int) - sample["gt_img"]).mean() < 70
    monkeypatch.setattr(
        scenes, "add_rain", lambda rng, image: multiply(image, np.zeros(image.shape[:2], dtype=np.uint8))
    )
    for index, sample in enumerate(samples[:3]):
        dry = scene[index]
        np.testing.assert_array_equal(dry["gt_img"], sample["gt_img"])
        assert dry["img"].max() == 0


def test_windows_of_the_endless_source_share_samples_only_where_they_overlap():
    long = ProceduralScenes(task="seg", size=32, start=0, length=8)
    late = ProceduralScenes(task="seg", size=32, start=5, length=8)
    np.testing.assert_array_equal(long[5]["img"], late[0]["img"])
    np.testing.assert_array_equal(late[-1]["img"], late[7]["img"])
    names = [{window[index]["img_path"] for index in range(5)} for window in (long, late)]
    assert not names[0] & names[1]


def test_the_pipeline_is_applied_in_order_and_the_registry_builds_the_dataset():
    @MMENGINE_TRANSFORMS.register_module(name="_MarkForTest", force=True)
    class Mark:
        def __call__(self, results):
            return dict(results, marked=True)

    try:
        scene = DATASETS.build(
            {
                "type": "ProceduralScenes",
                "task": "seg",
                "size": 32,
                "length": 2,
                "pipeline": [{"type": "_MarkForTest"}, lambda results: dict(results, order=results["marked"])],
            }
        )
        assert len(scene) == 2 and scene[0]["order"] is True
        assert scene.metainfo["task"] == "seg" and scene.metainfo["classes"] == ("background", "object")
    finally:
        MMENGINE_TRANSFORMS.module_dict.pop("_MarkForTest")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"task": "sound"}, "'sound'"),
        ({"size": 0}, "size is 0"),
        ({"size": 64.0}, "size is 64.0"),
        ({"start": -1}, "start is -1"),
        ({"length": 0}, "length is 0"),
        ({"seed": -2}, "seed is -2"),
        ({"num_people": (0, 1)}, "num_people"),
        ({"num_people": (3, 2)}, "num_people"),
        ({"num_people": 2}, "num_people"),
        ({"num_people": (1, 100)}, "num_people"),
        ({"num_people": (1, 1.5)}, "num_people"),
    ],
)
def test_wrong_arguments_are_refused_by_name(wrong, named):
    with pytest.raises(ValueError, match=named):
        ProceduralScenes(**{"task": "pose", "size": 32, **wrong})


def test_an_index_outside_the_window_is_an_index_error():
    scene = ProceduralScenes(task="seg", size=32, length=3)
    for index in (3, -4):
        with pytest.raises(IndexError, match="is out of range for a window of 3 procedural"):
            scene[index]
    assert sum(1 for _ in scene) == 3


# Mean RGB of the four quarters of sample 0 and 1 of seed 0 at 64 pixels (top left, top right, bottom left, bottom
# right), printed by this code with NumPy 2.4 and OpenCV 5.0. NumPy 1.26 with OpenCV 4.8 and scikit-image 0.20 gave
# pixels that differ by at most 2 levels; two levels in a mean of a quarter mean that the scene has changed.
QUARTERS = {
    ("seg", 0): [(129, 117, 132), (126, 113, 122), (82, 88, 77), (107, 108, 98)],
    ("seg", 1): [(67, 80, 75), (64, 77, 81), (100, 67, 106), (66, 69, 71)],
    ("pose", 0): [(129, 106, 110), (158, 139, 146), (113, 93, 96), (111, 94, 104)],
    ("pose", 1): [(232, 159, 107), (209, 124, 86), (108, 56, 46), (166, 93, 64)],
    ("derain", 0): [(58, 77, 104), (54, 66, 98), (81, 85, 106), (78, 86, 113)],
    ("derain", 1): [(125, 108, 126), (158, 134, 158), (69, 61, 69), (129, 110, 130)],
}


@pytest.mark.parametrize(("task", "index"), list(QUARTERS))
def test_scenes_are_those_of_every_other_machine(task, index):
    image = ProceduralScenes(task=task, size=64)[index]["img"].astype(np.float64)
    quarters = image.reshape(2, 32, 2, 32, 3).mean(axis=(1, 3)).reshape(4, 3)
    np.testing.assert_allclose(quarters, QUARTERS[task, index], atol=2.0)
