"""The OpenPose skeleton as data: joints, limbs and their colors, and how COCO's and MPII's keypoints map to them."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

# Colors and limbs of OpenPose (https://github.com/CMU-Perceptual-Computing-Lab/openpose) as mmpose's "openpose"
# skeleton style has them (configs/_base_/datasets/coco_openpose.py), RGB. The 18 joints are COCO's 17 and the neck,
# the mean of the shoulders. Order here is OpenPose's, which is also the order in which joints are drawn.
JOINTS = (
    ("nose", (255, 0, 0)),
    ("neck", (255, 85, 0)),
    ("right_shoulder", (255, 170, 0)),
    ("right_elbow", (255, 255, 0)),
    ("right_wrist", (170, 255, 0)),
    ("left_shoulder", (85, 255, 0)),
    ("left_elbow", (0, 255, 0)),
    ("left_wrist", (0, 255, 85)),
    ("right_hip", (0, 255, 170)),
    ("right_knee", (0, 255, 255)),
    ("right_ankle", (0, 170, 255)),
    ("left_hip", (0, 85, 255)),
    ("left_knee", (0, 0, 255)),
    ("left_ankle", (85, 0, 255)),
    ("right_eye", (170, 0, 255)),
    ("left_eye", (255, 0, 255)),
    ("right_ear", (255, 0, 170)),
    ("left_ear", (255, 0, 85)),
)
# (parent, child, RGB): a tree with the neck as its root.
LIMBS = (
    ("neck", "right_shoulder", (255, 0, 0)),
    ("neck", "left_shoulder", (255, 85, 0)),
    ("right_shoulder", "right_elbow", (255, 170, 0)),
    ("right_elbow", "right_wrist", (255, 255, 0)),
    ("left_shoulder", "left_elbow", (170, 255, 0)),
    ("left_elbow", "left_wrist", (85, 255, 0)),
    ("neck", "right_hip", (0, 255, 0)),
    ("right_hip", "right_knee", (0, 255, 85)),
    ("right_knee", "right_ankle", (0, 255, 170)),
    ("neck", "left_hip", (0, 255, 225)),
    ("left_hip", "left_knee", (0, 170, 255)),
    ("left_knee", "left_ankle", (0, 85, 255)),
    ("neck", "nose", (0, 0, 255)),
    ("nose", "right_eye", (255, 0, 170)),
    ("right_eye", "right_ear", (170, 0, 255)),
    ("nose", "left_eye", (255, 0, 255)),
    ("left_eye", "left_ear", (255, 0, 170)),
)
LIMB_OPACITY = 0.6
COCO_KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
# Of the 16 keypoints of MPII (http://human-pose.mpi-inf.mpg.de); "" is what COCO does not have.
MPII_KEYPOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "", "", "", "", "right_wrist",
    "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
# Per-keypoint constants of COCO's object keypoint similarity (https://cocodataset.org/#keypoints-eval).
COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
)  # fmt: skip

JOINT_NAMES = [name for name, _ in JOINTS]
NECK = JOINT_NAMES.index("neck")
LIMB_ENDS = np.array([[JOINT_NAMES.index(parent), JOINT_NAMES.index(child)] for parent, child, _ in LIMBS])
JOINT_OF_COCO = np.array([JOINT_NAMES.index(name) for name in COCO_KEYPOINTS])
COCO_OF_JOINT = np.array([COCO_KEYPOINTS.index(name) if name != "neck" else -1 for name in JOINT_NAMES])
SHOULDERS = [COCO_KEYPOINTS.index("left_shoulder"), COCO_KEYPOINTS.index("right_shoulder")]
NUM_JOINTS, NUM_LIMBS, NUM_KEYPOINTS = len(JOINTS), len(LIMBS), len(COCO_KEYPOINTS)

PERSON_CATEGORIES = ("person", "people", "human", "pedestrian")


def is_person(category: dict[str, Any]) -> bool:
    """Whether a category of a COCO file is of people, by its ``name`` or ``supercategory``."""
    return any(str(category.get(key, "")).strip().lower() in PERSON_CATEGORIES for key in ("name", "supercategory"))


def coco_order(names: Sequence[str]) -> np.ndarray:
    """Where COCO's keypoints stand among others, by name.

    Args:
        names: Names of keypoints, such as ``categories[].keypoints`` of a COCO file. Case, blanks and hyphens do not
            matter.

    Returns:
        Of each of COCO's 17 its position in ``names``, -1 where it has none.

    Raises:
        ValueError: A name is there twice.
    """
    plain = [re.sub(r"[\s_-]+", "_", str(name).strip().lower()) for name in names]
    if twice := sorted({name for name in plain if plain.count(name) > 1}):
        raise ValueError(f"keypoints {', '.join(twice)} are named twice")
    return np.array([plain.index(name) if name in plain else -1 for name in COCO_KEYPOINTS])


def check_body(results: dict[str, Any]) -> None:
    """Check that the keypoints of a results dict are COCO's, as far as data sets of mmpose say what theirs are.

    Those put themselves into the results as ``dataset``, with the names of their keypoints and the categories of their
    file in ``metainfo``. Results of other data sets are not looked at.

    Raises:
        ValueError: They are others, in another order, or not of people.
    """
    metainfo = getattr(results.get("dataset"), "metainfo", None) or {}
    name = f"{results.get('img_path')} ({metainfo.get('dataset_name')})"
    advice = "CocoPoseDataset reads files of COCO's form and orders keypoints by name"
    named = metainfo.get("keypoint_id2name") or {}
    categories = {entry.get("id"): entry for entry in metainfo.get("CLASSES") or () if isinstance(entry, dict)}
    given = [categories.get(number, {}) for number in np.ravel(results.get("category_id", [])).tolist()]
    for names in (list(named.values()), *(entry.get("keypoints") for entry in given)):
        if names and not np.array_equal(coco_order(names), np.arange(NUM_KEYPOINTS)):
            raise ValueError(
                f"{name} has the keypoints {', '.join(map(str, names))}, expected COCO's in its order: {advice}"
            )
    animals = {str(entry.get("name")) for entry in given if entry and not is_person(entry)}
    if animals:
        raise ValueError(f"{name} shows {', '.join(sorted(animals))}, expected a person: skeletons are drawn of people")
