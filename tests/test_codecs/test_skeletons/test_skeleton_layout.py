"""Skeletons of mmpose's metainfo: animals and hands drawn and read back, colors, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from delvm_mm.codecs import SkeletonCodec
from delvm_mm.codecs.skeletons.openpose import COCO_KEYPOINTS
from delvm_mm.codecs.skeletons.skeleton_layout import OPENPOSE, layout_of
from delvm_mm.datasets.transforms.geometry import flip
from helpers.poses import as_jpeg, blurred, clean, noisy

LEGS = [(f"{side}_{end}_{part}") for end in ("front", "hind") for side in ("left", "right") for part in ("knee", "paw")]
ANIMAL = ["nose", "neck", "tail", *LEGS]


def metainfo(names, links, color=(51, 153, 255), **changes):
    """As in mmpose's configs/_base_/datasets; all of one color, as most are."""

    def other(name):
        turned = name.replace("left", "right") if "left" in name else name.replace("right", "left")
        return turned if turned != name else ""

    points = {
        number: dict(name=name, id=number, color=color, type="", swap=other(name)) for number, name in enumerate(names)
    }
    skeleton = {number: dict(link=link, id=number, color=color) for number, link in enumerate(links)}
    known = dict(dataset_name="zoo", keypoint_info=points, skeleton_info=skeleton, joint_weights=[1.0] * len(names))
    return known | dict(sigmas=[0.05] * len(names)) | changes


def animal(**changes):
    links = [("nose", "neck"), ("neck", "tail")]
    for side in ("left", "right"):
        links += [("neck", f"{side}_front_knee"), (f"{side}_front_knee", f"{side}_front_paw")]
        links += [("tail", f"{side}_hind_knee"), (f"{side}_hind_knee", f"{side}_hind_paw")]
    return metainfo(ANIMAL, links, **changes)


def hand():
    names = ["wrist", *(f"finger{finger}_{joint}" for finger in range(5) for joint in range(4))]
    links = []
    for finger in range(5):
        links += [("wrist", f"finger{finger}_0")]
        links += [(f"finger{finger}_{joint}", f"finger{finger}_{joint + 1}") for joint in range(3)]
    return metainfo(names, links, sigmas=[])


def random_animal(rng, size):
    """11 x 2: a body, its legs below."""
    length = rng.uniform(0.35, 0.6) * size
    neck = np.array([rng.uniform(0.1, 0.3) * size, rng.uniform(0.2, 0.5) * size])
    tail = neck + np.array([length, rng.uniform(-0.1, 0.1) * size])
    points = [neck - 0.15 * length, neck, tail]
    for start in (neck, tail):
        for shift in (-0.1, 0.12):
            knee = start + np.array([(shift + rng.uniform(-0.05, 0.05)) * length, 0.3 * length])
            points += [knee, knee + np.array([rng.uniform(-0.1, 0.1) * length, 0.28 * length])]
    return np.array(points)


def random_hand(rng, size):
    """21 x 2: a wrist and five fingers like a fan."""
    wrist, points = np.array([size / 2, 0.9 * size]), []
    for finger in range(5):
        angle = np.deg2rad(-130 + 20 * finger + rng.uniform(-5, 5))
        along = np.array([np.cos(angle), np.sin(angle)]) * size
        points += [wrist + along * (0.25 + 0.13 * joint) for joint in range(4)]
    return np.array([wrist, *points])


def part_found(codec, people, size, degrade, rng):
    count = people.shape[1]
    truth = dict(keypoints=people, keypoints_visible=np.ones(people.shape[:2]), img_shape=(size, size))
    read = codec.decode(degrade(codec.encode(truth), rng))["keypoints"]
    assert read.shape[1:] == (count, 2)
    found = []
    for person in people:
        near = [np.linalg.norm(one - person, axis=1) <= 0.05 * np.ptp(person, axis=0).max() for one in read]
        found.append(max((np.mean(one) for one in near), default=0))
    return np.mean(found)


@pytest.mark.parametrize(("degrade", "least"), [(clean, 0.98), (noisy, 0.97), (blurred, 0.9), (as_jpeg, 0.85)])
@pytest.mark.parametrize(("info", "pose"), [(animal(), random_animal), (hand(), random_hand)], ids=["animal", "hand"])
def test_animals_and_hands_are_read_back(info, pose, degrade, least):
    codec, rng = SkeletonCodec(radius=4, thickness=2, metainfo=info), np.random.default_rng(0)
    found = [part_found(codec, pose(rng, 192)[None], 192, degrade, rng) for _ in range(25)]
    assert np.mean(found) > least


def test_two_animals_are_told_apart():
    codec, rng = SkeletonCodec(radius=3, thickness=1.5, metainfo=animal(), max_people=5), np.random.default_rng(1)
    found = []
    for _ in range(25):
        both = np.stack([random_animal(rng, 128), random_animal(rng, 128) + np.array([20, 115])])
        found.append(part_found(codec, both, 256, clean, rng))
    assert np.mean(found) > 0.97


def test_cocos_keypoints_are_openposes_drawing_whatever_the_colors_are():
    links = [("nose", "left_eye"), ("left_shoulder", "left_elbow")]
    codec = SkeletonCodec(metainfo=metainfo(COCO_KEYPOINTS, links))
    people = dict(
        keypoints=np.random.default_rng(0).uniform(20, 230, (1, 17, 2)),
        keypoints_visible=np.ones((1, 17)),
        img_shape=(256, 256),
    )
    image = codec.encode(people)
    np.testing.assert_array_equal(image, SkeletonCodec().encode(people))
    np.testing.assert_array_equal(codec.decode(image)["keypoints"], SkeletonCodec().decode(image)["keypoints"])
    assert codec.dataset_meta["dataset_name"] == "zoo" and np.allclose(codec.dataset_meta["sigmas"], 0.05)


def test_colors_are_the_metainfos_where_they_can_be_told_apart():
    far = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    info = metainfo("abc", [("a", "b"), ("b", "c")])
    for number, color in enumerate(far):
        info["keypoint_info"][number]["color"] = color
    for number, color in enumerate(([255, 255, 0], [0, 255, 255])):
        info["skeleton_info"][number]["color"] = color
    layout = layout_of(info)
    assert layout.colors == ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    assert layout.limb_colors == ((255, 255, 0), (0, 255, 255))
    info["keypoint_info"][2]["color"] = [0, 255, 10]  # as good as b's
    assert layout_of(info).colors == ((255, 0, 0), (0, 255, 0), (0, 0, 255)), "hues a third of the circle apart"
    assert layout_of(info).limb_colors == ((0, 255, 0), (0, 0, 255)), "those of the far ends"


def test_parsed_metainfo_and_mmposes_files_are_the_same():
    mmpose = pytest.importorskip("mmpose")
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    raw, parsed = layout_of(animal()), layout_of(parse_pose_metainfo(animal()))
    assert (raw.keypoints, raw.colors, raw.flip, raw.sigmas) == (
        parsed.keypoints,
        parsed.colors,
        parsed.flip,
        parsed.sigmas,
    ) or np.allclose(raw.sigmas, parsed.sigmas)
    np.testing.assert_array_equal(raw.limbs, parsed.limbs)
    folder = Path(mmpose.__file__).parent / ".mim" / "configs" / "_base_" / "datasets"
    if folder.is_dir():
        assert len(layout_of(str(folder / "ap10k.py")).keypoints) == 17
        assert len(layout_of(dict(from_file=str(folder / "onehand10k.py"))).keypoints) == 21
        with pytest.raises(ValueError, match="metainfo of 'wflw' has no links between its 98 keypoints"):
            layout_of(str(folder / "wflw.py"))
        with pytest.raises(ValueError, match="has 133 keypoints, and the hues of more than 30"):
            layout_of(str(folder / "coco_wholebody.py"))


def test_openposes_layout_is_cocos():
    assert [OPENPOSE.joints[joint] for joint in OPENPOSE.joint_of] == list(COCO_KEYPOINTS)
    mirrored = [COCO_KEYPOINTS[number] for number in OPENPOSE.flip]
    assert mirrored[:4] == ["nose", "right_eye", "left_eye", "right_ear"]
    apart = OPENPOSE.distances()
    wrist, shoulder = OPENPOSE.joints.index("left_wrist"), OPENPOSE.joints.index("left_shoulder")
    assert apart[wrist, shoulder] == pytest.approx(0.18 + 0.16) and (apart == apart.T).all()


def test_animals_are_mirrored_by_their_own_pairs():
    flips = layout_of(animal()).flip
    results = dict(
        img=np.zeros((50, 50, 3), np.uint8),
        keypoints=np.stack([np.arange(11.0), np.zeros(11)], -1)[None],
        keypoints_visible=np.ones((1, 11)),
        flip_indices=list(flips),
    )
    flip(results, True, False)
    left, right = ANIMAL.index("left_front_paw"), ANIMAL.index("right_front_paw")
    assert results["keypoints"][0, left, 0] == 49 - right and results["keypoints"][0, 0, 0] == 49


def test_truth_and_answers_have_the_metainfos_keypoints():
    codec = SkeletonCodec(metainfo=animal())
    people = dict(keypoints=np.full((1, 11, 2), 30.0), keypoints_visible=np.ones((1, 11)), img_shape=(64, 64))
    fields = codec.to_fields(people, codec.decode(np.zeros((64, 64, 3), np.uint8)))
    assert fields["pred_instances"]["keypoints"].shape == fields["gt_instances"]["keypoints"].shape == (1, 11, 2)
    with pytest.raises(ValueError, match=r"expected \(N, 11, 2\) in the order of the metainfo 'zoo'"):
        codec.encode(people | dict(keypoints=np.zeros((1, 17, 2))))
    other = type(
        "Other", (), dict(metainfo=dict(dataset_name="coco", keypoint_id2name=dict(enumerate(COCO_KEYPOINTS))))
    )
    with pytest.raises(ValueError, match="expected those of the codec's metainfo, nose, neck, tail"):
        codec.annotation_of(people | dict(dataset=other()))


@pytest.mark.parametrize(
    ("info", "error", "message"),
    [
        (
            animal(skeleton_info={}),
            ValueError,
            r"metainfo of 'zoo' has no links between its 11 keypoints \(skeleton_info\)",
        ),
        (animal(sigmas=[0.1]), ValueError, "has 1 sigmas for 11 keypoints"),
        (metainfo("ab", [("a", "c")]), ValueError, "links or swaps 'c', expected one of its keypoints: a, b"),
        (metainfo("aa", [("a", "a")]), ValueError, "names keypoints a twice"),
        (dict(dataset_name="zoo"), ValueError, r"has \['dataset_name'\], expected keypoint_info and skeleton_info"),
        (17, TypeError, "metainfo is a int"),
    ],
)
def test_metainfo_that_cannot_be_drawn_is_refused(info, error, message):
    with pytest.raises(error, match=message):
        SkeletonCodec(metainfo=info)
