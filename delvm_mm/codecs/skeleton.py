"""Body keypoints drawn as an OpenPose-colored skeleton, and such a skeleton read back."""

from typing import Any

import cv2
import numpy as np

from delvm_mm.codecs.base import LabelCodec, check_image, pick
from delvm_mm.codecs.openpose import (
    COCO_KEYPOINTS,
    COCO_OF_JOINT,
    COCO_SIGMAS,
    JOINT_OF_COCO,
    JOINTS,
    LIMB_ENDS,
    LIMB_OPACITY,
    LIMBS,
    MPII_KEYPOINTS,
    NUM_KEYPOINTS,
    SHOULDERS,
    check_body,
)
from delvm_mm.codecs.skeleton_reader import READING_RADIUS, SUBPIXEL_BITS, fixed_point, read_person
from delvm_mm.registry import TASK_UTILS


@TASK_UTILS.register_module()
class SkeletonCodec(LabelCodec):
    """COCO-17 keypoints as OpenPose-colored discs and limbs on black; one person is read back.

    The annotation is ``dict(keypoints=N x 17 x 2 (x, y in pixels; pixel centers are whole numbers),
    keypoints_visible=N x 17 in 0..1 (or N x 17 x 1; COCO's 2 counts as visible), img_shape=(H, W))``; N may be 0.
    Keypoints outside the image, or not visible, are not drawn and not expected back. A neck, the mean of the
    shoulders, is drawn where both are visible. The prediction is the same dict with N = 1 and ``keypoint_scores``
    (1 x 17 in 0..1): about 1 for a joint whose disc is seen, up to 0.5 for one that only its limbs betray, 0 for one
    that is not there; its coordinates are then a guess from its neighbors. Of several people the one whose parts are
    seen best is read.

    Reading: hue says which joint or limb a pixel belongs to, brightness tells discs from limbs; a joint may be at
    discs of its color, at the tips of its limbs, or under a disc that is drawn later; the best tree of such places,
    with limbs seen between them, is found exactly (pictorial structures, Felzenszwalb and Huttenlocher, 2005).

    Tolerance, as the part of visible keypoints within 0.1 of the longer side of the person's box, over random poses
    of 0.4 to 0.95 of the image, where discs cover each other:
    at 256 px with radius 8 0.98 clean, 0.975 after a blur (sigma 1.5), JPEG of quality 50 or noise (sigma 12), 0.92
    with hues off by 6 degrees and washed out; with radius 4 0.99, 0.98 and 0.95; at 64 px with radius 2 and thickness
    1 0.95 clean, 0.8 after that blur or JPEG. What is lost is joints that lie wholly under others.

    Args:
        radius: of a joint's disc, in pixels, at least 1. The published images have 8; at 256 px 4 hides less, at
            64 px 2 is right. An image is to be read with the radius it was drawn with (a third off is borne).
        thickness: half the widest width of a limb, in pixels (the short half axis of its ellipse), at least 0.5 and
            not above ``radius``, as the ellipses' of OpenPose. Published: 4.
        visible_thr: keypoints are drawn, and said to be visible when read, where their visibility or score is above
            this value. In [0, 1).

    Raises:
        ValueError: if an argument is not a number or outside its range.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import SkeletonCodec
        >>> codec = SkeletonCodec(radius=4, thickness=2)
        >>> person = np.random.default_rng(0).uniform(20, 230, (1, 17, 2))
        >>> image = codec.encode(dict(keypoints=person, keypoints_visible=np.ones((1, 17)), img_shape=(256, 256)))
        >>> codec.decode(image)["keypoints"].shape
        (1, 17, 2)
    """

    background = (0, 0, 0)
    palette = tuple(color for _, color in JOINTS)

    def __init__(self, radius: float = 8, thickness: float = 4, visible_thr: float = 0.3) -> None:
        for name, value in (("radius", radius), ("thickness", thickness), ("visible_thr", visible_thr)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} is {value!r}, expected a number")
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
            num_keypoints=NUM_KEYPOINTS,
            keypoint_id2name=dict(enumerate(COCO_KEYPOINTS)),
            keypoint_name2id={name: i for i, name in enumerate(COCO_KEYPOINTS)},
            sigmas=np.array(COCO_SIGMAS, np.float32),
        )

    def encode(self, annotation: dict[str, Any]) -> np.ndarray:
        """Draw people; later ones over earlier ones.

        Args:
            annotation: dict of ``keypoints``, ``keypoints_visible`` and ``img_shape``, see the class.

        Returns:
            RGB image, uint8, H x W x 3.

        Raises:
            TypeError: if the annotation is not a dict of numbers.
            ValueError: if a key is missing, a shape is not as above, or a visible keypoint is not finite.
        """
        keypoints, visible, (height, width) = self._check(annotation, "encode")
        image = np.zeros((height, width, 3), np.uint8)
        for person, seen in zip(keypoints, visible, strict=True):
            self._draw_person(image, person, seen)
        return image

    def decode(self, image: np.ndarray) -> dict[str, Any]:
        """Read one person.

        Args:
            image: RGB, uint8, H x W x 3.

        Returns:
            dict of ``keypoints`` (float32, 1 x 17 x 2), ``keypoint_scores`` (float32, 1 x 17 in 0..1),
            ``keypoints_visible`` (float32, 1 x 17, 1 where the score is above ``visible_thr``) and ``img_shape``.

        Raises:
            TypeError: if the image is not a uint8 array.
            ValueError: if it is not H x W x 3.
        """
        check_image(image, "SkeletonCodec.decode")
        scale = READING_RADIUS / self.radius
        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        read = image
        if scale != 1:
            read = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        points, scores = read_person(read)
        points = (points + 0.5) * image.shape[1::-1] / size - 0.5
        scores = scores[None, JOINT_OF_COCO].astype(np.float32)
        return dict(
            keypoints=points[None, JOINT_OF_COCO].astype(np.float32),
            keypoint_scores=scores,
            keypoints_visible=(scores > self.visible_thr).astype(np.float32),
            img_shape=image.shape[:2],
        )

    def decode_mean(self, images: np.ndarray) -> dict[str, Any]:
        """Read several label images and average the people: a mean of skeletons shows none.

        Args:
            images: RGB, uint8, N x H x W x 3.

        Returns:
            As :meth:`decode`: the mean position of each keypoint in the images in which it is there, and the mean of
            its scores in all of them.
        """
        read = [self.decode(np.ascontiguousarray(image)) for image in images]
        scores = np.concatenate([person["keypoint_scores"] for person in read])
        places = np.concatenate([person["keypoints"] for person in read])
        there = (scores > 0)[..., None]
        mean = np.where(there, places, 0).sum(0) / np.maximum(there.sum(0), 1)
        score = scores.mean(0, keepdims=True)
        return dict(
            keypoints=np.where(there.any(0), mean, places.mean(0))[None].astype(np.float32),
            keypoint_scores=score,
            keypoints_visible=(score > self.visible_thr).astype(np.float32),
            img_shape=images.shape[1:3],
        )

    def annotation_of(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pick the people out of a results dict.

        Returns:
            dict of ``keypoints``, ``keypoints_visible`` and ``img_shape``, and those of ``bbox`` (N x 4, xyxy),
            ``head_size`` and ``area`` (of the outline, in pixels of this image) that are there, for the metrics.

        Raises:
            ValueError: if one of the first three is missing, or the data set of mmpose that they are of has other
                keypoints than COCO's, in another order, or of animals.
        """
        check_body(results)
        annotation = {key: pick(results, key, "SkeletonCodec") for key in _ANNOTATION_KEYS}
        return annotation | {key: results[key] for key in _METRIC_KEYS if results.get(key) is not None}

    def to_fields(self, truth: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
        """Lay out truth and prediction as ``mmpose.PCKAccuracy`` and ``mmpose.CocoMetric`` read them.

        Of several people in the truth the one with the largest box is compared. Keypoints that were not drawn count as
        not visible. Predicted keypoints that are not there (score 0) are put far outside of the image: a guess, such as
        the middle of an image without a person, would be right by chance. Boxes that the truth does not give are those
        of the visible keypoints. PCK's 'head' needs ``head_size`` in the truth; mmpose's 'torso' is the distance of
        keypoints 4 and 5, which are JHMDB's torso and in COCO's order the right ear and the left shoulder, so tPCK
        means little here.

        Args:
            truth: what :meth:`annotation_of` gave.
            prediction: what :meth:`decode` gave.

        Returns:
            ``pred_instances`` (``keypoints`` 1 x 17 x 2, ``keypoint_scores`` 1 x 17, ``bbox_scores`` 1) and
            ``gt_instances`` (``keypoints`` 1 x 17 x 2, ``keypoints_visible`` 1 x 17 of 0 and 1, ``bboxes`` 1 x 4 xyxy;
            ``head_size`` and ``areas`` if known). What ``CocoMetric`` reads beside them, the evaluator adds.

        Raises:
            TypeError: if one of the two is not a dict of numbers.
            ValueError: if a key is missing or a shape is wrong.
        """
        keypoints, visible, shape = self._check(truth, "to_fields, truth")
        for key, wanted in (("keypoints", (1, NUM_KEYPOINTS, 2)), ("keypoint_scores", (1, NUM_KEYPOINTS))):
            given = np.shape(pick(prediction, key, "SkeletonCodec.to_fields"))
            if given != wanted:
                raise ValueError(f"SkeletonCodec.to_fields: the prediction's {key} are {given}, expected {wanted}")
        absent = np.asarray(prediction["keypoint_scores"])[..., None] <= 0
        places = np.where(absent, FAR_OUTSIDE * max(shape), prediction["keypoints"])
        visible &= _inside(keypoints, shape)
        boxes = _boxes(truth.get("bbox"), keypoints, visible)
        sides = (boxes[:, 2:] - boxes[:, :2]).clip(0)
        which = int(np.argmax(np.where(visible.any(1), sides.prod(1), -1))) if len(keypoints) else 0
        if not len(keypoints):
            keypoints, visible = np.zeros((1, NUM_KEYPOINTS, 2)), np.zeros((1, NUM_KEYPOINTS), bool)
            boxes, sides = np.zeros((1, 4)), np.zeros((1, 2))
        chosen = slice(which, which + 1)
        people = dict(
            keypoints=np.where(visible, 1, 0)[chosen, :, None] * np.nan_to_num(keypoints[chosen]).astype(np.float32),
            keypoints_visible=visible[chosen].astype(np.float32),
            bboxes=boxes[chosen].astype(np.float32),
        )
        if "head_size" in truth:
            people["head_size"] = _of_person(truth["head_size"], which, np.float32)
        if "area" in truth:
            people["areas"] = _of_person(truth["area"], which, np.float32)
        return dict(
            pred_instances=dict(
                keypoints=places.astype(np.float32),
                keypoint_scores=np.asarray(prediction["keypoint_scores"], np.float32),
                bbox_scores=np.ones(1, np.float32),
            ),
            gt_instances=people,
        )

    def _check(self, annotation: dict[str, Any], where: str) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Check an annotation; return keypoints (N x 17 x 2, float), which are visible (N x 17, bool) and (H, W)."""
        where = f"SkeletonCodec.{where}"
        if not isinstance(annotation, dict):
            raise TypeError(f"{where}: got a {type(annotation).__name__}, expected a dict with {_ANNOTATION_KEYS}")
        keypoints, visible, shape = (np.asarray(pick(annotation, key, where)) for key in _ANNOTATION_KEYS)
        if not all(array.dtype.kind in "buif" for array in (keypoints, visible, shape)):
            raise TypeError(
                f"{where}: {_ANNOTATION_KEYS} hold {keypoints.dtype}, {visible.dtype}, {shape.dtype}; expected numbers"
            )
        if keypoints.ndim != 3 or keypoints.shape[1:] != (NUM_KEYPOINTS, 2):
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

    def _draw_person(self, image: np.ndarray, keypoints: np.ndarray, visible: np.ndarray) -> None:
        points = np.where(COCO_OF_JOINT[:, None] < 0, keypoints[SHOULDERS].mean(0), keypoints[COCO_OF_JOINT])
        drawn = np.where(COCO_OF_JOINT < 0, visible[SHOULDERS].all(), visible[COCO_OF_JOINT])
        drawn &= _inside(points, image.shape)
        for (parent, child), (_, _, color) in zip(LIMB_ENDS, LIMBS, strict=True):
            if drawn[parent] and drawn[child]:
                outline = _ellipse_outline(points[parent], points[child], self.thickness)
                x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
                x1, y1 = np.ceil(outline.max(0)).astype(int) + 2
                below = image[y0:y1, x0:x1]
                above = below.copy()
                cv2.fillConvexPoly(above, fixed_point(outline - [x0, y0]), color, cv2.LINE_AA, SUBPIXEL_BITS)
                # blended, so that earlier limbs shine through where two cross
                below[:] = cv2.addWeighted(below, 1 - LIMB_OPACITY, above, LIMB_OPACITY, 0)
        radius = round(self.radius * 2**SUBPIXEL_BITS)
        for point, shown, (_, color) in zip(points, drawn, JOINTS, strict=True):
            if shown:
                cv2.circle(image, fixed_point(point).tolist(), radius, color, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def mpii_to_coco(keypoints: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put MPII's 16 keypoints in COCO's order; the face is not visible.

    Pelvis, thorax, upper neck and head top have no place in COCO and are left out.

    Args:
        keypoints: N x 16 x 2 (or 16 x 2), x and y.
        visible: N x 16 (or 16).

    Returns:
        Keypoints, N x 17 x 2, zeros where MPII has none, and visibility, N x 17 (without N if the input had none).

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
    moved = np.zeros((*keypoints.shape[:-2], NUM_KEYPOINTS, 2), keypoints.dtype)
    seen = np.zeros((*visible.shape[:-1], NUM_KEYPOINTS), visible.dtype)
    moved[..., target, :] = keypoints[..., source, :]
    seen[..., target] = visible[..., source]
    return moved, seen


# Sides of the image; finite, as a NaN matches everything in COCO's similarity, and near enough for its largest area.
FAR_OUTSIDE = -10
_ANNOTATION_KEYS = ("keypoints", "keypoints_visible", "img_shape")
_METRIC_KEYS = ("bbox", "head_size", "area")


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


def _inside(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whether points (... x 2, x and y) lie in an image of ``shape`` (H, W, ...)."""
    return ((points >= -0.5) & (points < np.array([shape[1], shape[0]]) - 0.5)).all(-1)


def _ellipse_outline(start: np.ndarray, end: np.ndarray, half_width: float) -> np.ndarray:
    """Polygon (72 x 2) of the ellipse whose long axis runs from ``start`` to ``end``."""
    along = (end - start) / 2
    length = np.hypot(*along)
    across = half_width * (np.array([-along[1], along[0]]) / length if length > 0 else np.array([0.0, 1.0]))
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)[:, None]
    return (start + end) / 2 + along * np.cos(angles) + across * np.sin(angles)
