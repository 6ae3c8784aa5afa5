"""Body keypoints drawn as an OpenPose-coloured skeleton, and such a skeleton read back."""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from delvm_mm.registry import TASK_UTILS

from .base import LabelCodec, check_picture, pick

# Colours and limbs of OpenPose (https://github.com/CMU-Perceptual-Computing-Lab/openpose) as mmpose's "openpose"
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

_JOINT_NAMES = [name for name, _ in JOINTS]
_NECK = _JOINT_NAMES.index("neck")
_LIMB_ENDS = np.array([[_JOINT_NAMES.index(parent), _JOINT_NAMES.index(child)] for parent, child, _ in LIMBS])
_JOINT_OF_COCO = np.array([_JOINT_NAMES.index(name) for name in COCO_KEYPOINTS])
_COCO_OF_JOINT = np.array([COCO_KEYPOINTS.index(name) if name != "neck" else -1 for name in _JOINT_NAMES])
_SHOULDERS = [COCO_KEYPOINTS.index("left_shoulder"), COCO_KEYPOINTS.index("right_shoulder")]
_NUM_JOINTS, _NUM_LIMBS, _NUM_KEYPOINTS = len(JOINTS), len(LIMBS), len(COCO_KEYPOINTS)

_SUBPIXEL_BITS = 4  # positions are drawn to a sixteenth of a pixel
_READING_RADIUS = 4  # a picture is read at the scale where its discs have this radius, in pixels
_HUE_SIGMA = 14.0  # degrees; neighbouring colours are 20 apart
_PEAKS = 4  # discs of its colour that are considered for a joint
# No limb is longer than about this part of the person's height; in the order of LIMBS.
_LONGEST = (0.3, 0.3, 0.35, 0.35, 0.35, 0.35, 0.6, 0.45, 0.45, 0.6, 0.45, 0.45, 0.3, 0.12, 0.15, 0.12, 0.15)


@TASK_UTILS.register_module()
class SkeletonCodec(LabelCodec):
    """COCO-17 keypoints as OpenPose-coloured discs and limbs on black; one person is read back.

    The annotation is ``dict(keypoints=N×17×2 (x, y in pixels; pixel centres are whole numbers),
    keypoints_visible=N×17 in 0..1 (or N×17×1; COCO's 2 counts as visible), img_shape=(H, W))``; N may be 0.
    Keypoints outside the picture, or not visible, are not drawn and not expected back. A neck, the mean of the
    shoulders, is drawn where both are visible. The prediction is the same dict with N = 1 and ``keypoint_scores``
    (1×17 in 0..1): about 1 for a joint whose disc is seen, up to 0.5 for one that only its limbs betray, 0 for one
    that is not there; its coordinates are then a guess from its neighbours. Of several people the one whose parts are
    seen best is read.

    Reading: hue says which joint or limb a pixel belongs to, brightness tells discs from limbs; a joint may be at
    discs of its colour, at the tips of its limbs, or under a disc that is drawn later; the best tree of such places,
    with limbs seen between them, is found exactly (pictorial structures, Felzenszwalb and Huttenlocher, 2005).

    Tolerance, as the part of visible keypoints within 0.1 of the longer side of the person's box, over random poses
    of 0.4 to 0.95 of the picture, where discs cover each other:
    at 256 px with radius 8 0.98 clean, 0.975 after a blur (sigma 1.5), JPEG of quality 50 or noise (sigma 12), 0.92
    with hues off by 6 degrees and washed out; with radius 4 0.99, 0.98 and 0.95; at 64 px with radius 2 and thickness
    1 0.95 clean, 0.8 after that blur or JPEG. What is lost is joints that lie wholly under others.

    Args:
        radius: of a joint's disc, in pixels, at least 1. The published pictures have 8; at 256 px 4 hides less, at
            64 px 2 is right. A picture is to be read with the radius it was drawn with (a third off is borne).
        thickness: half the widest width of a limb, in pixels (the short half axis of its ellipse), at least 0.5 and
            not above ``radius``, as the ellipses' of OpenPose. Published: 4.
        visible_thr: keypoints are drawn, and said to be visible when read, where their visibility or score is above
            this value. In [0, 1).

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if an argument is outside its range.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import SkeletonCodec
        >>> codec = SkeletonCodec(radius=4, thickness=2)
        >>> person = np.random.default_rng(0).uniform(20, 230, (1, 17, 2))
        >>> picture = codec.encode(dict(keypoints=person, keypoints_visible=np.ones((1, 17)), img_shape=(256, 256)))
        >>> codec.decode(picture)["keypoints"].shape
        (1, 17, 2)
    """

    background = (0, 0, 0)
    palette = tuple(color for _, color in JOINTS)

    def __init__(self, radius: float = 8, thickness: float = 4, visible_thr: float = 0.3) -> None:
        for name, value in (("radius", radius), ("thickness", thickness), ("visible_thr", visible_thr)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} is {value!r}, expected a number")
        if not 1 <= radius < np.inf:
            raise ValueError(f"radius is {radius}, expected at least 1 pixel")
        if not 0.5 <= thickness <= radius:
            raise ValueError(f"thickness is {thickness}, expected 0.5 to the radius, {radius}, in pixels")
        if not 0 <= visible_thr < 1:
            raise ValueError(f"visible_thr is {visible_thr}, expected a value in [0, 1)")
        self.radius = radius
        self.thickness = thickness
        self.visible_thr = visible_thr
        self.dataset_meta = dict(
            dataset_name="coco",
            num_keypoints=_NUM_KEYPOINTS,
            keypoint_id2name=dict(enumerate(COCO_KEYPOINTS)),
            keypoint_name2id={name: i for i, name in enumerate(COCO_KEYPOINTS)},
            sigmas=np.array(COCO_SIGMAS, np.float32),
            # mmpose.CocoMetric writes this down as the categories of COCO's json
            CLASSES=[dict(id=1, name="person", supercategory="person")],
        )

    def encode(self, annotation: dict[str, Any]) -> np.ndarray:
        """Draw people; later ones over earlier ones.

        Args:
            annotation: dict of ``keypoints``, ``keypoints_visible`` and ``img_shape``, see the class.

        Returns:
            RGB picture, uint8, H×W×3.

        Raises:
            TypeError: if the annotation is not a dict of numbers.
            ValueError: if a key is missing, a shape is not as above, or a visible keypoint is not finite.
        """
        keypoints, visible, (height, width) = self._check(annotation, "encode")
        picture = np.zeros((height, width, 3), np.uint8)
        for person, seen in zip(keypoints, visible, strict=True):
            self._draw_person(picture, person, seen)
        return picture

    def decode(self, picture: np.ndarray) -> dict[str, Any]:
        """Read one person.

        Args:
            picture: RGB, uint8, H×W×3.

        Returns:
            dict of ``keypoints`` (float32, 1×17×2), ``keypoint_scores`` (float32, 1×17 in 0..1), ``keypoints_visible``
            (float32, 1×17, 1 where the score is above ``visible_thr``) and ``img_shape``.

        Raises:
            TypeError: if the picture is not a uint8 array.
            ValueError: if it is not H×W×3.
        """
        check_picture(picture, "SkeletonCodec.decode")
        scale = _READING_RADIUS / self.radius
        size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
        read = picture
        if scale != 1:
            read = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        points, scores = _read_person(read)
        points = (points + 0.5) * picture.shape[1::-1] / size - 0.5
        scores = scores[None, _JOINT_OF_COCO].astype(np.float32)
        return dict(
            keypoints=points[None, _JOINT_OF_COCO].astype(np.float32),
            keypoint_scores=scores,
            keypoints_visible=(scores > self.visible_thr).astype(np.float32),
            img_shape=picture.shape[:2],
        )

    def annotation_of(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pick the people out of a results dict.

        Returns:
            dict of ``keypoints``, ``keypoints_visible`` and ``img_shape``, and those of ``bbox`` (N×4, xyxy),
            ``head_size``, ``area``, ``id``, ``img_id`` and ``category_id`` that are there; they go to the metrics.

        Raises:
            ValueError: if one of the first three is missing.
        """
        annotation = {key: pick(results, key, "SkeletonCodec") for key in _ANNOTATION_KEYS}
        return annotation | {key: results[key] for key in _METRIC_KEYS if results.get(key) is not None}

    def to_fields(self, truth: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
        """Lay out truth and prediction as ``mmpose.PCKAccuracy`` and ``mmpose.CocoMetric`` read them.

        Of several people in the truth the one with the largest box is compared. Keypoints that were not drawn count as
        not visible. Boxes that the truth does not give are those of the visible keypoints. PCK's 'head' needs
        ``head_size`` in the truth; mmpose's 'torso' is the distance of keypoints 4 and 5, which are JHMDB's torso and
        in COCO's order the right ear and the left shoulder, so tPCK means little here.

        Args:
            truth: what :meth:`annotation_of` gave.
            prediction: what :meth:`decode` gave.

        Returns:
            ``pred_instances`` (``keypoints`` 1×17×2, ``keypoint_scores`` 1×17, ``bbox_scores`` 1) and ``gt_instances``
            (``keypoints`` 1×17×2, ``keypoints_visible`` 1×17 of 0 and 1, ``bboxes`` 1×4 xyxy, ``head_size`` if known).
            Where the truth has an ``img_id`` also ``id``, ``img_id``, ``category_id``, ``ori_shape`` and
            ``raw_ann_info``, in pixels of the drawn picture: ``CocoMetric`` without an annotation file needs them.

        Raises:
            TypeError: if one of the two is not a dict of numbers.
            ValueError: if a key is missing or a shape is wrong.
        """
        keypoints, visible, shape = self._check(truth, "to_fields, truth")
        for key, wanted in (("keypoints", (1, _NUM_KEYPOINTS, 2)), ("keypoint_scores", (1, _NUM_KEYPOINTS))):
            given = np.shape(pick(prediction, key, "SkeletonCodec.to_fields"))
            if given != wanted:
                raise ValueError(f"SkeletonCodec.to_fields: the prediction's {key} are {given}, expected {wanted}")
        visible &= _inside(keypoints, shape)
        boxes = _boxes(truth.get("bbox"), keypoints, visible)
        sides = (boxes[:, 2:] - boxes[:, :2]).clip(0)
        which = int(np.argmax(np.where(visible.any(1), sides.prod(1), -1))) if len(keypoints) else 0
        if not len(keypoints):
            keypoints, visible = np.zeros((1, _NUM_KEYPOINTS, 2)), np.zeros((1, _NUM_KEYPOINTS), bool)
            boxes, sides = np.zeros((1, 4)), np.zeros((1, 2))
        chosen = slice(which, which + 1)
        people = dict(
            keypoints=np.where(visible, 1, 0)[chosen, :, None] * np.nan_to_num(keypoints[chosen]).astype(np.float32),
            keypoints_visible=visible[chosen].astype(np.float32),
            bboxes=boxes[chosen].astype(np.float32),
        )
        if "head_size" in truth:
            people["head_size"] = _of_person(truth["head_size"], which, np.float32)
        fields = dict(
            pred_instances=dict(
                keypoints=np.asarray(prediction["keypoints"], np.float32),
                keypoint_scores=np.asarray(prediction["keypoint_scores"], np.float32),
                bbox_scores=np.ones(1, np.float32),
            ),
            gt_instances=people,
        )
        if "img_id" in truth:
            fields |= _coco_fields(truth, which, people, float(sides[which].prod()), shape)
        return fields

    def _check(self, annotation: dict[str, Any], where: str) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Check an annotation; return keypoints (N×17×2, float), which are visible (N×17, bool) and (H, W)."""
        where = f"SkeletonCodec.{where}"
        if not isinstance(annotation, dict):
            raise TypeError(f"{where}: got a {type(annotation).__name__}, expected a dict with {_ANNOTATION_KEYS}")
        keypoints, visible, shape = (np.asarray(pick(annotation, key, where)) for key in _ANNOTATION_KEYS)
        if not all(array.dtype.kind in "buif" for array in (keypoints, visible, shape)):
            raise TypeError(
                f"{where}: {_ANNOTATION_KEYS} hold {keypoints.dtype}, {visible.dtype}, {shape.dtype}; expected numbers"
            )
        if keypoints.ndim != 3 or keypoints.shape[1:] != (_NUM_KEYPOINTS, 2):
            raise ValueError(
                f"{where}: keypoints are {keypoints.shape}, expected (N, 17, 2) in COCO's order; "
                "mpii_to_coco maps MPII's 16 keypoints"
            )
        if visible.shape == (*keypoints.shape[:2], 1):
            visible = visible[..., 0]
        if visible.shape != keypoints.shape[:2]:
            raise ValueError(f"{where}: keypoints_visible are {visible.shape}, expected {keypoints.shape[:2]}")
        if shape.ndim != 1 or len(shape) not in (2, 3) or shape.dtype.kind not in "iu" or shape[:2].min() < 1:
            raise ValueError(
                f"{where}: img_shape is {annotation['img_shape']!r}, expected (H, W), whole numbers above 0"
            )
        if np.isnan(visible.astype(float)).any():
            raise ValueError(f"{where}: keypoints_visible hold NaN, expected values in 0..1")
        visible = visible > self.visible_thr
        if not np.isfinite(keypoints[visible].astype(float)).all():
            raise ValueError(f"{where}: a visible keypoint is NaN or infinite; set its keypoints_visible to 0")
        return keypoints.astype(np.float64), visible, (int(shape[0]), int(shape[1]))

    def _draw_person(self, picture: np.ndarray, keypoints: np.ndarray, visible: np.ndarray) -> None:
        points = np.where(_COCO_OF_JOINT[:, None] < 0, keypoints[_SHOULDERS].mean(0), keypoints[_COCO_OF_JOINT])
        drawn = np.where(_COCO_OF_JOINT < 0, visible[_SHOULDERS].all(), visible[_COCO_OF_JOINT])
        drawn &= _inside(points, picture.shape)
        for (parent, child), (_, _, color) in zip(_LIMB_ENDS, LIMBS, strict=True):
            if drawn[parent] and drawn[child]:
                outline = _ellipse_outline(points[parent], points[child], self.thickness)
                x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
                x1, y1 = np.ceil(outline.max(0)).astype(int) + 2
                below = picture[y0:y1, x0:x1]
                above = below.copy()
                cv2.fillConvexPoly(above, _fixed_point(outline - [x0, y0]), color, cv2.LINE_AA, _SUBPIXEL_BITS)
                # blended, so that earlier limbs shine through where two cross
                below[:] = cv2.addWeighted(below, 1 - LIMB_OPACITY, above, LIMB_OPACITY, 0)
        radius = round(self.radius * 2**_SUBPIXEL_BITS)
        for point, shown, (_, color) in zip(points, drawn, JOINTS, strict=True):
            if shown:
                cv2.circle(picture, _fixed_point(point).tolist(), radius, color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def mpii_to_coco(keypoints: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put MPII's 16 keypoints in COCO's order; the face is not visible.

    Pelvis, thorax, upper neck and head top have no place in COCO and are left out.

    Args:
        keypoints: N×16×2 (or 16×2), x and y.
        visible: N×16 (or 16).

    Returns:
        Keypoints, N×17×2, zeros where MPII has none, and visibility, N×17 (without N if the input had none).

    Raises:
        ValueError: if the shapes are not these.
    """
    keypoints, visible = np.asarray(keypoints), np.asarray(visible)
    if keypoints.ndim < 2 or keypoints.shape[-2:] != (16, 2) or visible.shape != keypoints.shape[:-1]:
        raise ValueError(
            f"mpii_to_coco: keypoints are {keypoints.shape} and visible {visible.shape}, "
            "expected (N, 16, 2) and (N, 16)"
        )
    source = [i for i, name in enumerate(MPII_KEYPOINTS) if name]
    target = [COCO_KEYPOINTS.index(MPII_KEYPOINTS[i]) for i in source]
    moved = np.zeros((*keypoints.shape[:-2], _NUM_KEYPOINTS, 2), keypoints.dtype)
    seen = np.zeros((*visible.shape[:-1], _NUM_KEYPOINTS), visible.dtype)
    moved[..., target, :] = keypoints[..., source, :]
    seen[..., target] = visible[..., source]
    return moved, seen


_ANNOTATION_KEYS = ("keypoints", "keypoints_visible", "img_shape")
_METRIC_KEYS = ("bbox", "head_size", "area", "id", "img_id", "category_id")


def _of_person(value: Any, which: int, dtype: type) -> np.ndarray:
    """The value of one person, of length 1, out of a list for all people or a single value."""
    values = np.asarray(value, dtype).reshape(-1)
    return values[which : which + 1] if len(values) > 1 else values


def _boxes(given: Any, keypoints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    if given is not None:
        boxes = np.asarray(given, np.float64).reshape(-1, 4)
        if len(boxes) != len(keypoints):
            raise ValueError(f"SkeletonCodec: {len(boxes)} boxes for {len(keypoints)} people, expected one (xyxy) each")
        return boxes
    low = np.where(visible[..., None], keypoints, np.inf).min(1)
    high = np.where(visible[..., None], keypoints, -np.inf).max(1)
    return np.where(visible.any(1)[:, None], np.concatenate([low, high], 1), 0)


def _coco_fields(truth: dict, which: int, people: dict, box_area: float, shape: tuple[int, int]) -> dict[str, Any]:
    image, number = truth["img_id"], int(_of_person(truth.get("id", truth["img_id"]), which, np.int64)[0])
    seen = people["keypoints_visible"][0]
    x0, y0, x1, y1 = people["bboxes"][0].tolist()
    raw = dict(
        id=number,
        image_id=image,
        category_id=1,
        bbox=[x0, y0, x1 - x0, y1 - y0],
        keypoints=np.column_stack([people["keypoints"][0], 2 * seen]).ravel().tolist(),
        num_keypoints=int(seen.sum()),
        iscrowd=0,
        area=float(_of_person(truth["area"], which, np.float64)[0]) if "area" in truth else box_area,
    )
    return dict(id=number, img_id=image, category_id=1, ori_shape=shape, raw_ann_info=[raw])


def _inside(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whether points (... × 2, x and y) lie in a picture of ``shape`` (H, W, ...)."""
    return ((points >= -0.5) & (points < np.array([shape[1], shape[0]]) - 0.5)).all(-1)


def _ellipse_outline(start: np.ndarray, end: np.ndarray, half_width: float) -> np.ndarray:
    """Polygon (72×2) of the ellipse whose long axis runs from ``start`` to ``end``."""
    along = (end - start) / 2
    length = np.hypot(*along)
    across = half_width * (np.array([-along[1], along[0]]) / length if length > 0 else np.array([0.0, 1.0]))
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)[:, None]
    return (start + end) / 2 + along * np.cos(angles) + across * np.sin(angles)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.round(points * 2**_SUBPIXEL_BITS).astype(np.int32)


def _ramp(values: np.ndarray, start: float, end: float) -> np.ndarray:
    return np.clip((values - start) / (end - start), 0, 1)


@lru_cache(maxsize=1)
def _color_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much a pixel looks like each joint's disc, each limb, and nothing, by its colour in 5 bits a channel.

    Hue says which; brightness tells discs (1.0) from limbs (0.6) and from limbs that cross (0.84); saturation only
    says how far the hue can be trusted, because tokenizers wash colours out.

    Returns:
        float32 tables in [0, 1]: 32768×18 (discs), 32768×17 (limbs), 32768 (nothing).
    """
    levels = (np.arange(32, dtype=np.float32) * 8 + 4) / 260
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(1, -1, 3)
    hue, saturation, value = (channel.T for channel in cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)))

    def hue_match(colors: list[tuple[int, int, int]]) -> np.ndarray:
        wanted = cv2.cvtColor(np.float32([colors]) / 255, cv2.COLOR_RGB2HSV)[0, :, 0]
        distance = np.abs((hue - wanted + 180) % 360 - 180)
        match = np.exp(-0.5 * (distance / _HUE_SIGMA) ** 2)
        return match * match / match.max(1, keepdims=True)  # less where another colour matches better

    colored = _ramp(saturation * value, 0.1, 0.3)
    discs = hue_match([color for _, color in JOINTS]) * colored * _ramp(value, 0.5, 0.8)
    limbs = hue_match([color for *_, color in LIMBS]) * colored * _ramp(value, 0.15, 0.35)
    limbs = limbs * (1 - 0.85 * _ramp(value, 0.66, 0.8))
    nothing = 1 - _ramp(value[:, 0], 0.1, 0.3)
    return discs.astype(np.float32), limbs.astype(np.float32), nothing.astype(np.float32)


def _read_person(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the best skeleton in a picture whose discs have radius ``_READING_RADIUS``.

    Returns:
        Points (18×2, x and y) and scores (18, in 0..1) of the joints, in the order of ``JOINTS``.
    """
    height, width = picture.shape[:2]
    value = picture.max(2)
    lit = value > 48
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    if not len(rows):
        return np.full((_NUM_JOINTS, 2), [(width - 1) / 2, (height - 1) / 2]), np.zeros(_NUM_JOINTS)
    margin = 2 * _READING_RADIUS
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    crop = picture[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]
    # the brightest parts, the discs, are drawn with full brightness; tokenizers darken them
    gain = 255 / max(np.percentile(value[lit], 98), 128)
    crop = cv2.convertScaleAbs(cv2.GaussianBlur(crop, (3, 3), 0), alpha=gain).astype(np.int32) >> 3
    code = crop[..., 0] << 10 | crop[..., 1] << 5 | crop[..., 2]
    discs, limbs, nothing = (table[code] for table in _color_tables())

    response = _disc_mean(discs)
    strong, strength = _disc_peaks(discs, response)
    rival = _look_up(response.max(2), np.nan_to_num(strong))
    hidden = _behind_later_discs(strong, (strength > 0.5) & (strength > 0.9 * rival), discs.shape)
    # Hidden pixels say nothing; the others speak for a joint's disc if they have its colour and against it if not.
    fit, free = _disc_mean((1 - hidden) * (1.6 * discs - 0.6)), _disc_mean(1 - hidden)
    peaks, _ = _disc_peaks(discs * (1 - hidden), fit)
    tips = _limb_tips(limbs)
    candidates, unary = [], []
    for joint in range(_NUM_JOINTS):
        own_tips = tips[np.isin(_LIMB_ENDS, joint).any(1)].reshape(-1, 2)
        places = np.concatenate([peaks[joint], own_tips, strong[joint + 1 :, 0]])  # later discs are drawn over it
        places = places[~np.isnan(places[:, 0])]
        part_free = _look_up(free[..., joint], places)
        score = _look_up(fit[..., joint], places) / (part_free + 0.2) - 0.3 * (1 - part_free)
        candidates.append(places)
        unary.append(np.where(score < 0, (1 + part_free) * score, score))

    evidence = cv2.dilate(limbs, np.ones((3, 3), np.uint8)) - 1.2 * nothing[..., None]
    reach = max(lit.any(0).sum(), lit.any(1).sum())
    pairs = [
        _limb_support(evidence[..., i], limbs[..., i], candidates[parent], candidates[child], _LONGEST[i] * reach)
        for i, (parent, child) in enumerate(_LIMB_ENDS)
    ]
    chosen = _best_tree(unary, pairs)
    if _set_back_strangers(chosen, candidates, unary):
        chosen = _best_tree(unary, pairs)
    found = chosen >= 0
    points, scores = np.full((_NUM_JOINTS, 2), np.nan), np.zeros(_NUM_JOINTS)
    for joint in np.flatnonzero(found):
        points[joint] = candidates[joint][chosen[joint]]
        scores[joint] = np.clip(unary[joint][chosen[joint]] / 0.6, 0, 1)
    for pair, ends in zip(pairs, _LIMB_ENDS, strict=True):
        if found[ends].all():
            scores[ends] = np.maximum(scores[ends], 0.5 * np.clip(pair[tuple(chosen[ends])], 0, 1))
    middle = np.array([crop.shape[1] - 1, crop.shape[0] - 1]) / 2
    return _guess_missing(points, middle) + np.array([left, top]), scores


def _disc_mean(maps: np.ndarray) -> np.ndarray:
    """Mean over about the area of a disc around every pixel, by channel: H×W×18."""
    small = cv2.blur(maps, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return cv2.blur(small, (5, 5), borderType=cv2.BORDER_REPLICATE)


def _look_up(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values (H×W) at the pixels nearest to points (... × 2); points outside are read at the border."""
    pixels = (points + 0.5).astype(np.int32)
    x = np.clip(pixels[..., 0], 0, values.shape[1] - 1)
    y = np.clip(pixels[..., 1], 0, values.shape[0] - 1)
    return values[y, x]


def _disc_peaks(discs: np.ndarray, response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the strongest discs of every joint's colour (18×P×2, NaN where none) and their response (18×P)."""
    height, width = response.shape[:2]
    y, x, joint = np.nonzero((response >= cv2.dilate(response, np.ones((5, 5), np.uint8))) & (response > 0.15))
    order = np.lexsort((-response[y, x, joint], joint))
    y, x, joint = y[order], x[order], joint[order]
    rank = np.arange(len(joint)) - np.searchsorted(joint, joint)
    y, x, joint, rank = (array[rank < _PEAKS] for array in (y, x, joint, rank))
    points = np.stack([x, y], -1).astype(np.float64)
    strength = np.zeros((_NUM_JOINTS, _PEAKS))
    strength[joint, rank] = response[y, x, joint]
    reach = np.arange(-_READING_RADIUS, _READING_RADIUS + 1)
    dy, dx = (grid.ravel() for grid in np.meshgrid(reach, reach, indexing="ij"))
    for _ in range(2):  # mean shift: towards the middle of the pixels of that colour
        xs, ys = np.round(points[:, :1]).astype(int) + dx, np.round(points[:, 1:]).astype(int) + dy
        weight = discs[ys.clip(0, height - 1), xs.clip(0, width - 1), joint[:, None]]
        weight = weight * ((xs >= 0) & (xs < width) & (ys >= 0) & (ys < height)) + 1e-6
        points = np.stack([(weight * xs).sum(1), (weight * ys).sum(1)], -1) / weight.sum(1, keepdims=True)
    middles = np.full((_NUM_JOINTS, _PEAKS, 2), np.nan)
    middles[joint, rank] = points
    return middles, strength


def _behind_later_discs(points: np.ndarray, strong: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """1 where one of the ``strong`` discs of a joint that is drawn later covers the pixel: H×W×18."""
    hidden = np.zeros(shape, np.float32)
    layer = np.zeros(shape[:2], np.float32)
    radius = round((_READING_RADIUS + 0.7) * 2**_SUBPIXEL_BITS)  # with the blended edge
    for joint in range(_NUM_JOINTS - 1, 0, -1):
        for point in points[joint][strong[joint]]:
            cv2.circle(layer, _fixed_point(point).tolist(), radius, 1, -1, cv2.LINE_8, _SUBPIXEL_BITS)
        hidden[..., joint - 1] = layer
    return hidden


def _limb_tips(limbs: np.ndarray) -> np.ndarray:
    """Both tips of all and of the largest piece of every limb's colour: 17×4×2, NaN where there is none."""
    winner = np.where(limbs.max(2) > 0.4, limbs.argmax(2), -1)
    tips = np.full((_NUM_LIMBS, 4, 2), np.nan)
    for limb in range(_NUM_LIMBS):
        mask = winner == limb
        y, x = np.nonzero(mask)
        if len(y) < 6:
            continue
        points = np.stack([x, y], -1).astype(np.float64)
        labels = cv2.connectedComponents(mask.astype(np.uint8))[1][y, x]
        largest = points[labels == np.bincount(labels).argmax()]
        tips[limb, :2] = _ends_of(points)
        tips[limb, 2:] = _ends_of(largest) if len(largest) >= 6 else np.nan
    return tips


def _ends_of(points: np.ndarray) -> np.ndarray:
    """The two ends (2×2) of a long cloud of points (N×2), on its main axis."""
    middle = points.mean(0)
    axis = np.linalg.eigh(np.cov(points.T))[1][:, 1]
    along = (points - middle) @ axis
    return middle + np.array([[along.min()], [along.max()]]) * axis


def _limb_support(
    evidence: np.ndarray, limb: np.ndarray, parents: np.ndarray, children: np.ndarray, longest: float
) -> np.ndarray:
    """How well the picture shows one limb between each parent (A×2) and each child (B×2): A×B, about -2 to 1."""
    start, end = parents[:, None, None], children[None, :, None]
    length = np.sqrt(((end - start) ** 2).sum(-1))
    unit = (end - start) / np.maximum(length, 1e-6)[..., None]
    between = np.maximum(length - 2 * _READING_RADIUS, 0)
    # from disc to disc; the worse half counts twice, because a wrong limb may follow a right one for a while
    seen = np.sort(_look_up(evidence, start + unit * (_READING_RADIUS + np.linspace(0, 1, 12) * between)[..., None]))
    support = 0.5 * (seen.mean(-1) + seen[..., :6].mean(-1)) * np.minimum(1, between[..., 0] / 8)
    # where the limb goes on behind an end, the end is elsewhere
    ahead = unit * (np.array([1.5, 2.0, 2.5]) * _READING_RADIUS)[:, None]
    beyond = _look_up(limb, end + ahead).mean(-1) + _look_up(limb, start - ahead).mean(-1)
    relative = length[..., 0] / longest
    return support - 0.3 * beyond - 1.2 * _ramp(relative, 1, 2) - 0.1 * relative


def _best_tree(unary: list[np.ndarray], pairs: list[np.ndarray]) -> np.ndarray:
    """Choose one candidate, or -1 for none, per joint (18): the exact maximum of the summed scores over the tree."""
    total = [np.append(scores, 0.0) for scores in unary]
    best_child = [np.zeros(0, int)] * _NUM_LIMBS
    for limb in reversed(range(_NUM_LIMBS)):
        parent, child = _LIMB_ENDS[limb]
        score = np.pad(pairs[limb], ((0, 1), (0, 1))) + total[child]
        best_child[limb] = score.argmax(1)
        total[parent] = total[parent] + score.max(1)
    chosen = np.zeros(_NUM_JOINTS, int)
    chosen[_NECK] = total[_NECK].argmax()
    for limb, (parent, child) in enumerate(_LIMB_ENDS):
        chosen[child] = best_child[limb][chosen[parent]]
    return np.where(chosen == [len(scores) for scores in unary], -1, chosen)


def _set_back_strangers(chosen: np.ndarray, candidates: list[np.ndarray], unary: list[np.ndarray]) -> bool:
    """Take other people's discs out of the choice, in place: what is far from the largest connected part.

    Returns:
        Whether a chosen candidate was among them, so that the choice has to be made again.
    """
    part = np.arange(_NUM_JOINTS)
    for parent, child in _LIMB_ENDS:
        if chosen[parent] >= 0 and chosen[child] >= 0:
            part[child] = part[parent]
    found = np.flatnonzero(chosen >= 0)
    if not len(found):
        return False
    members = found[part[found] == np.bincount(part[found]).argmax()]
    if len(members) < _NUM_JOINTS // 2:  # too little of the person to tell where it ends
        return False
    points = np.stack([candidates[joint][chosen[joint]] for joint in members])
    low, high = points.min(0), points.max(0)
    around = 0.4 * (high - low).max() + 2 * _READING_RADIUS
    again = False
    for joint in range(_NUM_JOINTS):
        far = ((candidates[joint] < low - around) | (candidates[joint] > high + around)).any(1)
        unary[joint][far] -= 4
        again |= bool(chosen[joint] >= 0 and far[chosen[joint]])
    return again


# Where a joint that was not found may hide, first choice first: at the middle of the joints named.
_HIDING = {
    "nose": ("left_eye right_eye", "left_ear right_ear", "left_eye", "right_eye", "left_ear", "right_ear"),
    "neck": ("left_shoulder right_shoulder",),
    "shoulder": ("neck", "other_shoulder", "elbow"),
    "elbow": ("shoulder wrist", "shoulder", "wrist"),
    "wrist": ("elbow",),
    "hip": ("other_hip", "knee"),
    "knee": ("hip ankle", "other_knee", "ankle"),
    "ankle": ("other_ankle", "knee"),
    "eye": ("nose ear", "nose", "other_eye", "ear"),
    "ear": ("eye", "other_ear", "nose"),
}


def _guess_missing(points: np.ndarray, default: np.ndarray) -> np.ndarray:
    """Replace NaN among the points (18×2) by what ``_HIDING`` says, or else their mean, or else ``default``."""
    points = points.copy()
    for _ in range(3):  # a guess may rest on a guess
        for joint in np.flatnonzero(np.isnan(points[:, 0])):
            side, _, part = _JOINT_NAMES[joint].rpartition("_")
            for names in _HIDING[part]:
                guess = points[[_joint_near(name, side) for name in names.split()]].mean(0)
                if not np.isnan(guess[0]):
                    points[joint] = guess
                    break
    known = ~np.isnan(points[:, 0])
    points[~known] = points[known].mean(0) if known.any() else default
    return points


def _joint_near(name: str, side: str) -> int:
    if name.startswith("other_"):
        name, side = name.removeprefix("other_"), "left" if side == "right" else "right"
    return _JOINT_NAMES.index(name if name in _JOINT_NAMES else f"{side}_{name}")
