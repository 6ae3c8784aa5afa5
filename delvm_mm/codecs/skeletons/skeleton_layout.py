"""What a skeleton is drawn of: OpenPose's of COCO's keypoints, or that of any ``metainfo`` of mmpose."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from delvm_mm.codecs.skeletons.openpose import (
    COCO_KEYPOINTS,
    COCO_OF_JOINT,
    COCO_SIGMAS,
    JOINTS,
    LIMB_ENDS,
    LIMBS,
    SHOULDERS,
)
from delvm_mm.toolboxes import require_toolbox

__all__ = ["OPENPOSE", "SkeletonLayout", "layout_of"]

MAX_JOINTS = 30
"""Hues of more are nearer than 12 degrees, and cannot be told apart in an image that a tokenizer wrote."""

LEAST_APART = 360 / MAX_JOINTS
LEAST_SATURATION = 0.7
LEAST_VALUE = 0.9

# Joints that no limb joins and that are no farther apart than this.
_BRACES = {
    ("left_hip", "right_hip"): 0.17,
    ("left_shoulder", "right_shoulder"): 0.2,
    ("left_shoulder", "left_hip"): 0.31,
    ("right_shoulder", "right_hip"): 0.31,
    ("left_eye", "right_eye"): 0.04,
    ("left_ear", "right_ear"): 0.09,
    ("nose", "left_ear"): 0.06,
    ("nose", "right_ear"): 0.06,
}
# Lengths of OpenPose's limbs as parts of a standing person's height, in the order of LIMBS.
_LENGTHS = (0.1, 0.1, 0.18, 0.16, 0.18, 0.16, 0.31, 0.24, 0.23, 0.31, 0.24, 0.23, 0.11, 0.03, 0.035, 0.03, 0.035)

Color = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class SkeletonLayout:
    """Joints, limbs and colors of one kind of skeleton; J joints, L limbs, K keypoints.

    Attributes:
        dataset_name: Of the data set whose keypoints these are.
        keypoints: Their names, K.
        sigmas: Of COCO's object keypoint similarity, K; none where the data set has none.
        flip: Of each keypoint the one that it becomes in the mirror, K.
        joints: Names of what is drawn, J, in the order of drawing.
        colors: RGB of each joint's disc, J.
        keypoint_of: Keypoint that each joint is, J; -1 for the one that is the middle of the two keypoints ``middle``.
        middle: Two keypoints, or none.
        limbs: The two joints of each limb, L x 2.
        limb_colors: RGB of each limb, L, before it is blended.
        lengths: About how long each limb is beside the others, L; the unit does not matter.
        braces: Of two joints that no limb joins, at most how far apart they are.
    """

    dataset_name: str
    keypoints: tuple[str, ...]
    sigmas: tuple[float, ...]
    flip: tuple[int, ...]
    joints: tuple[str, ...]
    colors: tuple[Color, ...]
    keypoint_of: np.ndarray
    middle: tuple[int, ...]
    limbs: np.ndarray
    limb_colors: tuple[Color, ...]
    lengths: tuple[float, ...]
    braces: Mapping[tuple[str, str], float]

    @property
    def joint_of(self) -> np.ndarray:
        """Joint that each keypoint is, K."""
        return np.argsort(np.where(self.keypoint_of < 0, len(self.joints), self.keypoint_of))[: len(self.keypoints)]

    def places(self, keypoints: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joints of one person.

        Args:
            keypoints: K x 2, x and y.
            visible: K, bool.

        Returns:
            J x 2, x and y, and which are there, J.
        """
        points, there = keypoints[self.keypoint_of], visible[self.keypoint_of]
        if self.middle:
            middles = self.keypoint_of < 0
            points[middles] = keypoints[list(self.middle)].mean(0)
            there[middles] = visible[list(self.middle)].all()
        return points, there

    def distances(self) -> np.ndarray:
        """How far apart joints are at most: the summed lengths of limbs and braces between them, J x J.

        Joints that no limbs join are taken to be as far apart as the farthest that some do.

        Returns:
            J x J.
        """
        count = len(self.joints)
        apart = np.full((count, count), np.inf)
        np.fill_diagonal(apart, 0)
        braces = {(self.joints.index(one), self.joints.index(other)): far for (one, other), far in self.braces.items()}
        for (one, other), length in [*zip(self.limbs, self.lengths, strict=True), *braces.items()]:
            apart[one, other] = apart[other, one] = min(length, apart[one, other])
        for between in range(count):  # Floyd and Warshall
            apart = np.minimum(apart, apart[:, between, None] + apart[None, between])
        return np.where(np.isfinite(apart), apart, apart[np.isfinite(apart)].max())


OPENPOSE = SkeletonLayout(
    dataset_name="coco",
    keypoints=COCO_KEYPOINTS,
    sigmas=COCO_SIGMAS,
    flip=tuple(
        COCO_KEYPOINTS.index(
            name.replace("left", "right") if "left" in name else name.replace("right", "left")
        )
        for name in COCO_KEYPOINTS
    ),
    joints=tuple(name for name, _ in JOINTS),
    colors=tuple(color for _, color in JOINTS),
    keypoint_of=COCO_OF_JOINT,
    middle=tuple(SHOULDERS),
    limbs=LIMB_ENDS,
    limb_colors=tuple(color for *_, color in LIMBS),
    lengths=_LENGTHS,
    braces=_BRACES,
)  # fmt: skip
"""COCO's 17 keypoints and the neck, as OpenPose draws them."""


def layout_of(metainfo: Mapping[str, Any] | str) -> SkeletonLayout:
    """The skeleton of a data set of mmpose.

    Its colors are taken where the joints' can be told apart and so can the limbs': bright, saturated, and their hues
    at least 12 degrees from each other. Most data sets give one color to many keypoints (one to each side, or to each
    finger); then hues go around the circle in the order of the keypoints, as OpenPose's do, and a limb has the hue of
    the joint at its far end.

    Args:
        metainfo: As mmpose's configs have it (``keypoint_info``, ``skeleton_info``, ``sigmas``), as
            ``parse_pose_metainfo`` gives it (``keypoint_id2name``, ``skeleton_links``, ...), ``dict(from_file=...)``,
            or the name of that file. COCO's 17 keypoints give OpenPose's skeleton.

    Returns:
        The skeleton.

    Raises:
        ImportError: A file is given and mmpose is missing.
        TypeError: It is none of these.
        ValueError: There are no links, or they name keypoints that are not there; there are more than 30 keypoints,
            two of one name, or sigmas for only some.
    """
    if isinstance(metainfo, str):
        metainfo = dict(from_file=metainfo)
    if not isinstance(metainfo, Mapping):
        raise TypeError(f"metainfo is a {type(metainfo).__name__}, expected a dict of mmpose, or the name of its file")
    if "from_file" in metainfo:
        metainfo = _read_file(metainfo["from_file"])
    dataset = f"metainfo of {metainfo.get('dataset_name', 'an unnamed data set')!r}"
    names, flip, given, links, given_links = _parts(metainfo, dataset)
    sigmas = tuple(float(sigma) for sigma in np.ravel(metainfo.get("sigmas", ())))
    if sigmas and len(sigmas) != len(names):
        raise ValueError(f"{dataset} has {len(sigmas)} sigmas for {len(names)} keypoints, expected one each, or none")
    name = str(metainfo.get("dataset_name", "unnamed"))
    if tuple(names) == COCO_KEYPOINTS:
        return replace(OPENPOSE, dataset_name=name, sigmas=sigmas or OPENPOSE.sigmas)
    if len(names) > MAX_JOINTS:
        raise ValueError(
            f"{dataset} has {len(names)} keypoints, and the hues of more than {MAX_JOINTS} cannot be told apart in a "
            "drawing: give a metainfo of fewer"
        )
    colors, limb_colors = given, given_links
    if not (_told_apart(given) and _told_apart(given_links)):
        colors = [_hue(number / len(names)) for number in range(len(names))]
        limb_colors = [colors[end] for _, end in links]
    return SkeletonLayout(
        dataset_name=name,
        keypoints=tuple(names),
        sigmas=sigmas,
        flip=tuple(flip),
        joints=tuple(names),
        colors=tuple(colors),
        keypoint_of=np.arange(len(names)),
        middle=(),
        limbs=np.array(links),
        limb_colors=tuple(limb_colors),
        lengths=(1.0,) * len(links),
        braces={},
    )


def _read_file(name: str) -> Mapping[str, Any]:
    return require_toolbox("mmpose.datasets.datasets.utils").parse_pose_metainfo(dict(from_file=name))


def _parts(metainfo: Mapping[str, Any], dataset: str) -> tuple[list[str], list[int], list, list, list]:
    """Names of keypoints, their mirror images, their colors; pairs of linked keypoints and the colors of the links."""
    if "keypoint_info" in metainfo:
        points = [metainfo["keypoint_info"][number] for number in sorted(metainfo["keypoint_info"], key=int)]
        names = [str(point["name"]) for point in points]
        colors = [point.get("color", (0, 0, 0)) for point in points]
        swaps = [point.get("swap") or point["name"] for point in points]
        skeleton = metainfo.get("skeleton_info") or {}
        links = [skeleton[number]["link"] for number in sorted(skeleton, key=int)]
        link_colors = [skeleton[number].get("color", (0, 0, 0)) for number in sorted(skeleton, key=int)]
    elif "keypoint_id2name" in metainfo:
        named = metainfo["keypoint_id2name"]
        names = [str(named[number]) for number in sorted(named, key=int)]
        colors = list(metainfo.get("keypoint_colors", [(0, 0, 0)] * len(names)))
        swaps = list(metainfo.get("flip_indices", range(len(names))))
        links = list(metainfo.get("skeleton_links") or ())
        link_colors = list(metainfo.get("skeleton_link_colors", [(0, 0, 0)] * len(links)))
    else:
        raise ValueError(
            f"{dataset} has {sorted(map(str, metainfo))}, expected keypoint_info and skeleton_info, as mmpose's files "
            "configs/_base_/datasets/*.py have them"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{dataset} names keypoints {', '.join(twice)} twice")
    if not links:
        raise ValueError(
            f"{dataset} has no links between its {len(names)} keypoints (skeleton_info), and a skeleton is read along "
            "them: add the pairs that are to be joined"
        )

    def number_of(point: Any) -> int:
        if isinstance(point, str) and point in names:
            return names.index(point)
        if isinstance(point, int | np.integer) and 0 <= point < len(names):
            return int(point)
        raise ValueError(f"{dataset} links or swaps {point!r}, expected one of its keypoints: {', '.join(names)}")

    pairs = [(number_of(one), number_of(other)) for one, other in links]
    as_tuples = [[tuple(int(level) for level in color) for color in group] for group in (colors, link_colors)]
    return names, [number_of(point) for point in swaps], as_tuples[0], pairs, as_tuples[1]


def _hue(turn: float) -> Color:
    return tuple(round(255 * level) for level in colorsys.hsv_to_rgb(turn, 1, 1))


def _told_apart(colors: Sequence[Color]) -> bool:
    read = [colorsys.rgb_to_hsv(*(level / 255 for level in color)) for color in colors]
    if any(saturation < LEAST_SATURATION or value < LEAST_VALUE for _, saturation, value in read):
        return False
    hues = np.sort([360 * hue for hue, _, _ in read])
    return bool(np.diff(hues, append=hues[0] + 360).min() >= LEAST_APART) if len(hues) > 1 else True
