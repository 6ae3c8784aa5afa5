"""Random transforms move images, maps and people together, and a mirrored person has left and right exchanged."""

import numpy as np
import pytest
import torchvision.transforms.functional as torchvision
from PIL import Image

from delvm_mm.codecs import SkeletonCodec
from delvm_mm.codecs.skeletons.openpose import COCO_KEYPOINTS, JOINTS
from delvm_mm.datasets import CenterCrop, DrawLabel, ResizeShortSide
from delvm_mm.datasets.transforms.augment import (
    ColorJitter,
    CropPerson,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    RandomRotation,
    SixCrop,
)
from delvm_mm.registry import TRANSFORMS

RADIUS = 5
GEOMETRIC = [
    dict(type="RandomResizedCrop", size=150, scale=(0.3, 0.9)),
    dict(type="RandomResizedCrop", size=(90, 130), scale=(0.3, 0.9)),
    dict(type="RandomFlip", prob=1.0),
    dict(type="RandomFlip", prob=1.0, direction="vertical"),
    dict(type="RandomFlip", prob=1.0, direction="diagonal"),
    dict(type="RandomRotation", max_angle=60),
    dict(type="RandomCrop", size=(120, 100)),
    dict(type="SixCrop", size=110),
    dict(type="CropPerson", padding=1.5),
    dict(type="CropPerson", padding=0.6),
    dict(type="ResizeShortSide", size=130),
    dict(type="CenterCrop", size=111),
]


def scene(height=160, width=201, seed=0):
    """One person whose keypoint k is a disc: alone in frame k, numbered k + 1 in the maps, all of them in img."""
    rng = np.random.RandomState(seed)
    # Cells of a grid, so that no disc touches another.
    cells = np.stack(np.meshgrid(np.arange(6), np.arange(5)), -1).reshape(-1, 2)
    cells = rng.permutation(cells)[:17]
    step = np.array([width / 6, height / 5])
    points = np.round((cells + 0.5) * step + rng.uniform(-4, 4, (17, 2)))
    rows, columns = np.indices((height, width))
    discs = np.hypot(columns - points[:, 0, None, None], rows - points[:, 1, None, None]) <= RADIUS
    frames = np.repeat(discs[..., None], 3, -1).astype(np.uint8) * 255
    numbers = (discs * np.arange(1, 18)[:, None, None]).sum(0)
    low, high = points.min(0) - RADIUS, points.max(0) + RADIUS + 1
    return {
        "img": frames.max(0),
        "gt_img": 255 - frames.max(0),
        "frames": frames,
        "gt_seg_map": numbers.astype(np.uint8),
        "gt_instance_map": numbers.astype(np.int32),
        "keypoints": points[None].astype(np.float32),
        "keypoints_visible": np.ones((1, 17), np.float32),
        "bbox": np.concatenate([low, high])[None].astype(np.float32),
        "area": np.array([900.0], np.float32),
        "head_size": np.array([30.0], np.float32),
        "img_shape": (height, width),
        "img_path": "scene.png",
    }


def center_of_mass(light):
    rows, columns = np.indices(light.shape)
    return np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()


@pytest.mark.parametrize("config", GEOMETRIC, ids=lambda config: "-".join(map(str, config.values())))
@pytest.mark.parametrize("seed", range(3))
def test_discs_stay_under_their_keypoints(config, seed):
    np.random.seed(seed)
    before = scene(seed=seed)
    results = TRANSFORMS.build(config)(scene(seed=seed))
    height, width = results["img_shape"]
    # A mirrored person: the disc of the left wrist is now that of a right one.
    mirrored = config["type"] == "RandomFlip" and config.get("direction") != "diagonal"
    disc_of = [COCO_KEYPOINTS.index(other_side(name)) if mirrored else k for k, name in enumerate(COCO_KEYPOINTS)]
    checked = 0
    for k, (x, y) in enumerate(results["keypoints"][0]):
        in_image = -0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5
        assert results["keypoints_visible"][0, k] == in_image
        frame = results["frames"][disc_of[k], ..., 0].astype(float)
        assert frame.shape == (height, width)
        reach = 2 * (RADIUS + 1) * max(results["area"][0] / 900, 1)
        if not (reach <= x < width - reach and reach <= y < height - reach):
            continue
        checked += 1
        assert np.allclose(center_of_mass(frame), (x, y), atol=0.25)
        disc = results["gt_instance_map"] == disc_of[k] + 1
        assert np.allclose(center_of_mass(disc), (x, y), atol=0.6)
        assert abs(disc.sum() - frame.sum() / 255) < 0.15 * disc.sum()
        assert np.mean(disc == (frame > 127)) > 0.998
    assert checked >= 3
    assert np.array_equal(results["gt_seg_map"], results["gt_instance_map"])
    assert np.array_equal(results["img"], results["frames"].max(0)), "frames and image go together"
    for key, value in before.items():
        if isinstance(value, np.ndarray):
            assert results[key].dtype == value.dtype, key
            assert results[key].flags.c_contiguous, key


def other_side(name):
    swap = {"left": "right", "right": "left"}
    return "_".join(swap.get(part, part) for part in name.split("_"))


@pytest.mark.parametrize("config", GEOMETRIC[:6], ids=lambda config: "-".join(map(str, config.values())))
def test_boxes_surround_what_they_did_and_sizes_scale(config):
    """The box of the person, the bounding box of all discs, is that of the discs afterwards, edges at 0 and W, H."""
    np.random.seed(2)
    before, results = scene(), TRANSFORMS.build(config)(scene())
    points, (x1, y1, x2, y2) = results["keypoints"][0], results["bbox"][0]
    scale = np.ptp(points, axis=0) / np.ptp(before["keypoints"][0], axis=0)
    if config["type"] == "RandomRotation":
        assert ((points > (x1, y1)) & (points < (x2, y2))).all()
        angle, (w, h) = np.radians(results["rotation"]), before["bbox"][0, 2:] - before["bbox"][0, :2]
        cos, sin = np.cos(angle), abs(np.sin(angle))
        assert np.allclose([x2 - x1, y2 - y1], [w * cos + h * sin, w * sin + h * cos], rtol=1e-4)
        scale = np.ones(2)
    else:
        # Discs of radius 5 reach 5.5 pixels from their centers.
        assert np.allclose(points.min(0) - 5.5 * scale + 0.5, (x1, y1), atol=0.51)
        assert np.allclose(points.max(0) + 5.5 * scale + 0.5, (x2, y2), atol=0.51)
    assert np.allclose(results["area"], 900 * scale.prod(), rtol=1e-3)
    assert np.allclose(results["head_size"], 30 * np.sqrt(scale.prod()), rtol=1e-3)


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_flipped_person_has_left_and_right_where_they_belong(direction):
    codec = SkeletonCodec(radius=RADIUS, thickness=1)
    person, colors = scene(), dict(JOINTS)
    mirrored_drawing = codec.encode(person)[:, ::-1] if direction == "horizontal" else codec.encode(person)[::-1]
    results = DrawLabel(codec)(RandomFlip(1.0, direction)(scene()))
    height, width = results["img_shape"]
    for k, name in enumerate(COCO_KEYPOINTS):
        x, y = person["keypoints"][0, COCO_KEYPOINTS.index(other_side(name))].astype(int)
        x, y = (width - 1 - x, y) if direction == "horizontal" else (x, height - 1 - y)
        assert results["keypoints"][0, k].tolist() == [x, y]
        assert tuple(results["label"][y, x]) == colors[name]
        assert tuple(mirrored_drawing[y, x]) == colors[other_side(name)], "what a flipped drawing would show"


def test_one_sided_visibility_changes_sides_with_the_flip():
    person = scene()
    person["keypoints_visible"][0, COCO_KEYPOINTS.index("left_wrist")] = 0
    flipped = RandomFlip(1.0)(person)["keypoints_visible"][0]
    assert [COCO_KEYPOINTS[k] for k in np.flatnonzero(flipped == 0)] == ["right_wrist"]


def test_flips_are_as_frequent_as_asked_and_undo_themselves():
    np.random.seed(0)
    done = [RandomFlip(0.3, ["horizontal", "vertical"])({"img": np.zeros((2, 2, 3), np.uint8)}) for _ in range(2000)]
    counts = [sum(results["flip_direction"] == name for results in done) for name in ("horizontal", "vertical")]
    # 300 expected each, standard deviation 16.
    assert all(abs(count - 300) < 65 for count in counts)
    twice = RandomFlip(1.0, "vertical")(RandomFlip(1.0, "vertical")(scene()))
    assert all(np.array_equal(twice[key], value) for key, value in scene().items())


def test_rotation_is_counter_clockwise_and_black_outside(monkeypatch):
    """By 90 degrees a square image is numpy's rot90, in which every pixel has a place."""
    monkeypatch.setattr(np.random, "uniform", lambda low, high: high)
    img = np.random.RandomState(0).randint(1, 256, (21, 21, 3), np.uint8)
    for dtype in (bool, np.uint8, np.uint16, np.int32, np.int64):
        mask = np.random.RandomState(1).randint(0, 2 if dtype is bool else 120, (21, 21)).astype(dtype)
        results = RandomRotation(90)({"img": img, "gt_seg_map": mask})
        assert np.array_equal(results["img"], np.rot90(img))
        assert np.array_equal(results["gt_seg_map"], np.rot90(mask)) and results["gt_seg_map"].dtype == dtype
    results = RandomRotation(45)({"img": img, "gt_seg_map": np.full((21, 21), 7)})
    assert results["rotation"] == 45 and not results["img"][0, 0].any() and results["gt_seg_map"][0, 0] == 0


def test_resized_crops_have_the_area_and_ratio_asked_for():
    np.random.seed(0)
    transform = RandomResizedCrop(32, scale=(0.2, 0.6), ratio=(0.8, 1.5))
    rectangles = np.array([transform._rectangle((300, 400), []) for _ in range(500)])
    top, left, height, width = rectangles.T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 300).all() and (left + width <= 400).all()
    areas, ratios = height * width / 120000, width / height
    # Sides are whole numbers of pixels, some 150 of them.
    assert 0.2 * 0.99 < areas.min() < 0.23 and 0.57 < areas.max() < 0.6 * 1.01
    assert 0.8 * 0.99 < ratios.min() < 0.83 and 1.45 < ratios.max() < 1.5 * 1.01


def test_resized_crop_is_torchvisions_of_the_same_rectangle(monkeypatch):
    img = np.random.RandomState(0).randint(0, 256, (60, 80, 3), np.uint8)
    monkeypatch.setattr(RandomResizedCrop, "_rectangle", lambda *_: (7, 11, 40, 50))
    expected = torchvision.resized_crop(Image.fromarray(img), 7, 11, 40, 50, [32, 32])
    assert np.array_equal(RandomResizedCrop(32)({"img": img})["img"], expected)


def test_resized_crop_keeps_half_of_somebody():
    """A person in one corner would be lost by nearly all crops of a tenth of the image."""
    corner = scene()
    corner["keypoints"] = corner["keypoints"] * 0.2
    kept = []
    for seed in range(30):
        np.random.seed(seed)
        kept.append(RandomResizedCrop(64, scale=(0.1, 0.1))(corner.copy())["keypoints_visible"].mean())
    assert min(kept) >= 0.5
    np.random.seed(0)
    lost = [RandomResizedCrop(64, (0.1, 0.1), keep_keypoints=0)(corner.copy()) for _ in range(30)]
    assert min(results["keypoints_visible"].mean() for results in lost) == 0


def test_resized_crop_falls_back_to_the_whole_image_for_people_and_to_the_center_without():
    wide = {"img": np.zeros((10, 100, 3), np.uint8), "keypoints": np.full((1, 17, 2), 2.0)}
    results = RandomResizedCrop(20, scale=(1, 1), ratio=(1, 1))(wide)
    assert results["img_shape"] == (20, 20)
    # (2 + 0.5) * 20 / 100 - 0.5 and (2 + 0.5) * 20 / 10 - 0.5
    assert np.allclose(results["keypoints"], (0.0, 4.5))
    assert RandomResizedCrop(20, scale=(1, 1), ratio=(1, 1))._rectangle((10, 100), []) == (0, 45, 10, 10)


@pytest.mark.parametrize(
    "config",
    [
        *GEOMETRIC[:7],
        dict(type="SixCrop", size=90, choose="random"),
        dict(type="ColorJitter", brightness=0.5, contrast=0.5, saturation=0.5, hue=0.3),
    ],
    ids=lambda config: config["type"],
)
def test_numpys_seed_decides(config):
    def run(seed):
        np.random.seed(seed)
        source = scene()
        source["img"] = np.random.RandomState(5).randint(0, 256, source["img"].shape, np.uint8)
        return TRANSFORMS.build(config)(source)

    first, again = run(1), run(1)
    assert all(np.array_equal(first[key], again[key]) for key in first)
    if config["type"] != "RandomFlip":
        assert any(not np.array_equal(first["img"], run(seed)["img"]) for seed in (2, 3, 4))


@pytest.mark.parametrize("config", [*GEOMETRIC, dict(type="ColorJitter", hue=0.1)], ids=lambda config: config["type"])
def test_nobody_and_nobody_visible_are_fine(config):
    transform = TRANSFORMS.build(config)
    hidden = scene()
    hidden["keypoints_visible"][:] = 0
    results = transform(hidden)
    assert not results["keypoints_visible"].any() and results["keypoints"].shape == (1, 17, 2)
    empty = scene()
    for key in ("keypoints", "keypoints_visible", "bbox", "area", "head_size"):
        empty[key] = empty[key][:0]
    if config["type"] == "CropPerson":
        with pytest.raises(ValueError, match=r"scene\.png has 0 boxes"):
            transform(empty)
        return
    results = transform(empty)
    assert results["keypoints"].shape == (0, 17, 2) and results["keypoints_visible"].shape == (0, 17)
    assert results["bbox"].shape == (0, 4) and results["area"].shape == results["head_size"].shape == (0,)
    assert SkeletonCodec(radius=2, thickness=1).encode(results).shape == results["img"].shape


def test_what_cannot_be_done_names_the_sample():
    small = {"img": np.zeros((20, 40, 3), np.uint8), "img_path": "small.png"}
    for transform in (RandomCrop(32), SixCrop(32)):
        with pytest.raises(ValueError, match=r"32x32 .* got small\.png with 20x40: put ResizeShortSide"):
            transform(small.copy())
    for transform in (RandomResizedCrop(), RandomFlip(), RandomRotation(), ColorJitter(), CropPerson()):
        with pytest.raises(ValueError, match=f"{type(transform).__name__} needs 'img'"):
            transform({})
    with pytest.raises(ValueError, match=r"small\.png have shape \(1, 16, 2\), expected N x 17 x 2"):
        RandomFlip(1.0)(small | {"keypoints": np.zeros((1, 16, 2))})
    with pytest.raises(ValueError, match=r"RandomFlip comes after DrawLabel in the pipeline of scene\.png"):
        RandomFlip(1.0)(DrawLabel(SkeletonCodec())(scene()))


@pytest.mark.parametrize(
    "transform, arguments",
    [
        (RandomCrop, dict(size=0)),
        (RandomResizedCrop, dict(scale=(0.5, 1.5))),
        (RandomResizedCrop, dict(scale=(0.9, 0.5))),
        (RandomResizedCrop, dict(ratio=(0, 1))),
        (RandomResizedCrop, dict(keep_keypoints=2)),
        (RandomFlip, dict(prob=1.5)),
        (RandomFlip, dict(direction="sideways")),
        (RandomFlip, dict(direction=[])),
        (RandomRotation, dict(max_angle=-1)),
        (ColorJitter, dict(brightness=-0.1)),
        (ColorJitter, dict(contrast=(1.2, 0.8))),
        (ColorJitter, dict(hue=0.6)),
        (SixCrop, dict(positions=["middle"])),
        (SixCrop, dict(choose="first")),
        (CropPerson, dict(padding=0)),
    ],
)
def test_arguments_out_of_range_are_refused(transform, arguments):
    with pytest.raises(ValueError, match=transform.__name__):
        transform(**arguments)


def test_color_jitter_is_one_map_of_colors_for_all_images():
    """Where two images of a sample agree they do so afterwards, also for contrast, which depends on the mean."""
    rng = np.random.RandomState(0)
    gt_img = rng.randint(0, 256, (12, 16, 3), np.uint8)
    img = np.where(rng.rand(12, 16, 1) < 0.5, 255, gt_img).astype(np.uint8)
    frames = np.stack([gt_img, img, gt_img])
    mask = np.eye(12, 16, dtype=np.uint8)
    transform = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)
    np.random.seed(3)
    results = transform({"img": img, "gt_img": gt_img, "frames": frames, "gt_seg_map": mask})
    same = (img == gt_img).all(-1)
    assert same.any() and np.array_equal(results["img"][same], results["gt_img"][same])
    assert np.array_equal(results["frames"], np.stack([results["gt_img"], results["img"], results["gt_img"]]))
    assert not np.array_equal(results["gt_img"], gt_img) and results["gt_seg_map"] is mask
    assert results["frames"].shape == (3, 12, 16, 3) and results["img"].dtype == np.uint8


@pytest.mark.parametrize("name, factor", [("brightness", 1.3), ("contrast", 0.6), ("saturation", 1.5), ("hue", -0.2)])
def test_color_jitter_of_one_image_is_torchvisions(name, factor):
    img = np.random.RandomState(0).randint(0, 256, (12, 16, 3), np.uint8)
    expected = getattr(torchvision, f"adjust_{name}")(Image.fromarray(img), factor)
    assert np.array_equal(ColorJitter(**{name: (factor, factor)})({"img": img})["img"], expected)


def test_color_jitter_without_a_range_leaves_the_image():
    img = np.random.RandomState(0).randint(0, 256, (12, 16, 3), np.uint8)
    assert ColorJitter()({"img": img})["img"] is img
    assert ColorJitter(contrast=[1, 1], hue=0)({"img": img})["img"] is img


@pytest.mark.parametrize(
    "shape, offsets",
    [
        ((15, 22), [(0, 0), (14, 0), (0, 7), (14, 7), (7, 4), (7, 7)]),
        ((22, 15), [(0, 0), (7, 0), (0, 14), (7, 14), (4, 7), (7, 7)]),
    ],
)
def test_six_crops_are_corners_center_and_the_middle_of_a_long_side(shape, offsets):
    """Offsets (x, y) of 8 x 8 in an image of 22 x 15: 14 and 7 pixels are free; halves round to even."""
    img = np.random.RandomState(0).randint(0, 256, (*shape, 3), np.uint8)
    for view, (x, y) in enumerate(offsets * 2):
        results = SixCrop(8)({"img": img, "view": view})
        assert results["crop_offset"] == (x, y)
        assert np.array_equal(results["img"], img[y : y + 8, x : x + 8])


def test_six_crop_is_drawn_where_there_is_no_view():
    np.random.seed(0)
    img = np.zeros((15, 22, 3), np.uint8)
    assert len({SixCrop(8)({"img": img})["crop_offset"] for _ in range(60)}) == 6
    assert len({SixCrop(8, choose="random")({"img": img, "view": 0})["crop_offset"] for _ in range(60)}) == 6
    assert SixCrop(8, positions=["left"])({"img": img, "view": 4})["crop_offset"] == (0, 4)


def test_crop_person_takes_the_largest_and_leaves_the_others_out():
    """Person 1 has the larger box, but it lies outside; of person 0, 40 x 20 pixels are in the image."""
    img = np.full((50, 100, 3), 200, np.uint8)
    results = CropPerson(padding=1.5)(
        {
            "img": img,
            "gt_seg_map": np.ones((50, 100), np.uint8),
            "keypoints": np.stack([np.full((17, 2), 70.0), np.full((17, 2), 10.0), np.full((17, 2), 20.0)]),
            "keypoints_visible": np.ones((3, 17, 1), np.float32),
            "bbox": np.array([[-500.0, 0, -100, 50], [0, 0, 20, 20], [-30, 10, 40, 30]], np.float32),
            "area": np.array([9e4, 300, 600]),
            "head_size": [90, 8, 9],
        }
    )
    # Side 1.5 * 40 around (20, 20): from -10 to 50 in both directions; rows -10 to -1 are above the image.
    assert results["img_shape"] == (60, 60) and results["crop_offset"] == (-10, -10)
    assert results["bbox"].tolist() == [[-20, 20, 50, 40]]
    assert results["keypoints"].shape == (1, 17, 2) and (results["keypoints"] == 30).all()
    assert results["keypoints_visible"].shape == (1, 17, 1) and results["keypoints_visible"].all()
    assert results["area"].tolist() == [600] and results["head_size"].tolist() == [9]
    expected = np.zeros((60, 60), np.uint8)
    expected[10:, 10:] = 1
    assert np.array_equal(results["gt_seg_map"], expected) and np.array_equal(results["img"][..., 0], expected * 200)


def test_crop_person_refuses_damaged_boxes():
    person = scene()
    for box in ([np.nan] * 4, [500, 500, 600, 600], [30, 30, 10, 10]):
        with pytest.raises(ValueError, match=r"scene\.png has 1 boxes .*none of them in its image of 160x201"):
            CropPerson()(person | {"bbox": np.array([box], np.float32)})
    with pytest.raises(ValueError, match=r"2 entries in 'area' for 1 boxes"):
        CropPerson()(person | {"area": np.ones(2)})
    far = CropPerson()(person | {"bbox": np.array([[-1e9, -1e9, 1e9, 1e9]])})
    assert far["img_shape"] == (251, 251), "1.25 * 201; a huge box takes no huge memory"


def test_keypoints_outside_the_image_stay_invisible_in_a_border():
    """A joint 4 pixels left of the image would be drawn on the black border of the square."""
    person = scene()
    person["keypoints"][0, 0] = (-4, 80)
    results = CropPerson(padding=2.0)(person)
    assert results["keypoints"][0, 0, 0] > 0 and results["keypoints_visible"][0].tolist() == [0] + [1] * 16


def test_a_whole_pipeline_agrees_with_the_image():
    """Errors do not add up: six transforms in a row, and every disc is still under its keypoint."""
    np.random.seed(4)
    results = scene(320, 400)
    for transform in (
        RandomResizedCrop(300, scale=(0.8, 1)),
        RandomFlip(1.0),
        RandomRotation(20),
        ColorJitter(brightness=0.1),
        ResizeShortSide(256),
        CenterCrop(240),
    ):
        results = transform(results)
    seen = 0
    for k, (x, y) in enumerate(results["keypoints"][0]):
        if min(x, y) > 10 and max(x, y) < 230:
            frame = results["frames"][COCO_KEYPOINTS.index(other_side(COCO_KEYPOINTS[k])), ..., 0]
            assert np.allclose(center_of_mass(frame.astype(float)), (x, y), atol=0.3)
            seen += 1
    assert seen > 8
