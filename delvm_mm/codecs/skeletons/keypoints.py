"""What codecs of body keypoints share: annotations checked, people averaged, truth and answer laid out for metrics."""

from abc import abstractmethod
from typing import Any

import numpy as np

from delvm_mm.codecs.base import LabelCodec, check_image, pick
from delvm_mm.codecs.skeletons.openpose import (
    COCO_KEYPOINTS,
    COCO_SIGMAS,
    MPII_KEYPOINTS,
    NUM_KEYPOINTS,
    check_body,
)


class KeypointCodec(LabelCodec):
    """Keypoints, COCO's 17 if not said otherwise, drawn as an image, from which one person, or all, are read back.

    The annotation is ``dict(keypoints=N x 17 x 2 (x, y in pixels; pixel centers are whole numbers),
    keypoints_visible=N x 17 in 0..1 (or N x 17 x 1; COCO's 2 counts as visible), img_shape=(H, W))``; N may be 0.
    Keypoints outside the image, or not visible, are not drawn and not expected back. The prediction is the same dict
    with N at most ``max_people`` and ``keypoint_scores`` (N x 17 in 0..1), 0 for a keypoint that is not there.

    Args:
        visible_thr: keypoints are drawn, and said to be visible when read, where their visibility or score is above
            this value. In [0, 1).
        max_people: how many are read at most, the best seen ones first. With 1 the largest of the truth is what the
            answer is compared with, else all are.

    Raises:
        ValueError: if it is outside its range.
    """

    background = (0, 0, 0)
    num_keypoints: int = NUM_KEYPOINTS

    def __init__(self, visible_thr: float = 0.3, max_people: int = 1) -> None:
        check_numbers(visible_thr=visible_thr)
        if not 0 <= visible_thr < 1:
            raise ValueError(f"visible_thr is {visible_thr}, expected a value in [0, 1)")
        if isinstance(max_people, bool) or not isinstance(max_people, int) or max_people < 1:
            raise ValueError(f"max_people is {max_people!r}, expected a whole number, at least 1")
        self.visible_thr = visible_thr
        self.max_people = max_people
        self.dataset_meta = dict(
            dataset_name="coco",
            num_keypoints=NUM_KEYPOINTS,
            keypoint_id2name=dict(enumerate(COCO_KEYPOINTS)),
            keypoint_name2id={name: i for i, name in enumerate(COCO_KEYPOINTS)},
            sigmas=np.array(COCO_SIGMAS, np.float32),
        )

    @abstractmethod
    def _draw_person(self, image: np.ndarray, keypoints: np.ndarray, visible: np.ndarray) -> None:
        """Draw one person.

        Args:
            image: RGB, uint8, H x W x 3; drawn on.
            keypoints: x and y in pixels, 17 x 2, float; finite where visible.
            visible: which are to be drawn, 17, bool; some may lie outside the image.
        """

    @abstractmethod
    def _read_person(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read one person.

        Args:
            image: RGB, uint8, H x W x 3.

        Returns:
            x and y in pixels, 17 x 2, and scores in 0..1, 17.
        """

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
        """Read one person, or all of them.

        Args:
            image: RGB, uint8, H x W x 3.

        Returns:
            dict of ``keypoints`` (float32, N x K x 2), ``keypoint_scores`` (float32, N x K in 0..1),
            ``keypoints_visible`` (float32, N x K, 1 where the score is above ``visible_thr``) and ``img_shape``; N is 1
            with ``max_people=1``, else 0 to ``max_people``.

        Raises:
            TypeError: if the image is not a uint8 array.
            ValueError: if it is not H x W x 3.
        """
        check_image(image, f"{self._name}.decode")
        return self._read(image, self.max_people)

    def _read(self, image: np.ndarray, most: int) -> dict[str, Any]:
        if most > 1:
            points, scores = self._read_people(image)
            best_first = np.argsort(-scores.sum(1), kind="stable")[:most]
            points, scores = points[best_first], scores[best_first]
        else:
            points, scores = (found[None] for found in self._read_person(image))
        scores = scores.astype(np.float32)
        return dict(
            keypoints=points.astype(np.float32),
            keypoint_scores=scores,
            keypoints_visible=(scores > self.visible_thr).astype(np.float32),
            img_shape=image.shape[:2],
        )

    def _read_people(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read all people; as :meth:`_read_person`, N x K x 2 and N x K."""
        raise ValueError(f"{self._name} reads one person alone, max_people is {self.max_people}: use SkeletonCodec")

    def decode_mean(self, images: np.ndarray) -> dict[str, Any]:
        """Read several label images and average the people: a mean of skeletons shows none.

        Args:
            images: RGB, uint8, N x H x W x 3.

        Returns:
            As :meth:`decode` of one person: the mean position of each keypoint in the images in which it is there, and
            the mean of its scores in all of them.
        """
        read = [self._read(np.ascontiguousarray(image), 1) for image in images]
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
            ``head_size``, ``area`` (of the outline, in pixels of this image), ``ignored_bbox`` (M x 4, xyxy),
            ``ignored_area`` and ``ignored_crowd`` that are there, for the metrics.

        Raises:
            ValueError: if one of the first three is missing, or the data set of mmpose that they are of has other
                keypoints than the codec, in another order, or, where these are COCO's, of animals.
        """
        self._check_names(results)
        annotation = {key: pick(results, key, self._name) for key in _ANNOTATION_KEYS}
        return annotation | {key: results[key] for key in _METRIC_KEYS if results.get(key) is not None}

    def _check_names(self, results: dict[str, Any]) -> None:
        check_body(results)

    def to_fields(self, truth: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
        """Lay out truth and prediction as ``mmpose.PCKAccuracy`` and ``mmpose.CocoMetric`` read them.

        With ``max_people=1`` the one of the truth with the largest box is compared, else all are, which is for
        ``CocoMetric`` alone: others expect as many people in the answer as in the truth. Keypoints that were not drawn
        count as not visible. Predicted keypoints that are not there (score 0) are put far outside of the image: a
        guess, such as the middle of an image without a person, would be right by chance. Boxes that the truth does not
        give are those of the visible keypoints. PCK's 'head' needs ``head_size`` in the truth; mmpose's 'torso' is the
        distance of keypoints 4 and 5, which are JHMDB's torso and in COCO's order the right ear and the left shoulder,
        so tPCK means little here.

        Args:
            truth: what :meth:`annotation_of` gave.
            prediction: what :meth:`decode` gave.

        Returns:
            ``pred_instances`` (``keypoints`` N x K x 2, ``keypoint_scores`` N x K, ``bbox_scores`` N) and
            ``gt_instances`` (``keypoints`` M x K x 2, ``keypoints_visible`` M x K of 0 and 1, ``bboxes`` M x 4 xyxy;
            ``head_size``, ``areas`` and ``ignored_*`` if known). N is at least 1: where nobody was found, a person
            without keypoints stands there. What ``CocoMetric`` reads beside them, the evaluator adds.

        Raises:
            TypeError: if one of the two is not a dict of numbers.
            ValueError: if a key is missing or a shape is wrong.
        """
        keypoints, visible, shape = self._check(truth, "to_fields, truth")
        found, scores = (
            np.asarray(pick(prediction, key, self._name + ".to_fields")) for key in ("keypoints", "keypoint_scores")
        )
        count = 1 if self.max_people == 1 else len(found)
        for key, given, wanted in (
            ("keypoints", found, (count, self.num_keypoints, 2)),
            ("keypoint_scores", scores, (count, self.num_keypoints)),
        ):
            if given.shape != wanted:
                raise ValueError(f"{self._name}.to_fields: the prediction's {key} are {given.shape}, expected {wanted}")
        if not count:
            found, scores = np.zeros((1, self.num_keypoints, 2)), np.zeros((1, self.num_keypoints))
        places = np.where(scores[..., None] <= 0, FAR_OUTSIDE * max(shape), found)
        visible &= inside(keypoints, shape)
        boxes = _boxes(truth.get("bbox"), keypoints, visible, self._name)
        chosen = np.arange(len(keypoints))
        if self.max_people == 1:
            if not len(keypoints):
                keypoints, visible = np.zeros((1, self.num_keypoints, 2)), np.zeros((1, self.num_keypoints), bool)
                boxes = np.zeros((1, 4))
            areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
            chosen = np.array([np.argmax(np.where(visible.any(1), areas, -1))])
        people = dict(
            keypoints=np.where(visible, 1, 0)[chosen, :, None] * np.nan_to_num(keypoints[chosen]).astype(np.float32),
            keypoints_visible=visible[chosen].astype(np.float32),
            bboxes=boxes[chosen].astype(np.float32),
        )
        for key, name in (("head_size", "head_size"), ("area", "areas")):
            if key in truth:
                people[name] = _of_people(truth[key], chosen, np.float32)
        people |= {key: np.asarray(truth[key]) for key in _IGNORED_KEYS if key in truth}
        return dict(
            pred_instances=dict(
                keypoints=places.astype(np.float32),
                keypoint_scores=scores.astype(np.float32),
                bbox_scores=self._people_scores(scores).astype(np.float32),
            ),
            gt_instances=people,
        )

    def _people_scores(self, scores: np.ndarray) -> np.ndarray:
        """How sure it is that there is somebody, N: the more keypoints are seen, the surer."""
        return np.ones(len(scores)) if self.max_people == 1 else scores.mean(1)

    def _check(self, annotation: dict[str, Any], where: str) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Check an annotation; return keypoints (N x 17 x 2, float), which are visible (N x 17, bool) and (H, W)."""
        where = f"{self._name}.{where}"
        if not isinstance(annotation, dict):
            raise TypeError(f"{where}: got a {type(annotation).__name__}, expected a dict with {_ANNOTATION_KEYS}")
        keypoints, visible, shape = (np.asarray(pick(annotation, key, where)) for key in _ANNOTATION_KEYS)
        if not all(array.dtype.kind in "buif" for array in (keypoints, visible, shape)):
            raise TypeError(
                f"{where}: {_ANNOTATION_KEYS} hold {keypoints.dtype}, {visible.dtype}, {shape.dtype}; expected numbers"
            )
        if keypoints.ndim != 3 or keypoints.shape[1:] != (self.num_keypoints, 2):
            names = self.dataset_meta["dataset_name"]
            raise ValueError(
                f"{where}: keypoints are {keypoints.shape}, expected (N, {self.num_keypoints}, 2) in the order of "
                + ("COCO; mpii_to_coco maps MPII's 16 keypoints" if names == "coco" else f"the metainfo {names!r}")
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

    @property
    def _name(self) -> str:
        return type(self).__name__


def check_numbers(**values: Any) -> None:
    """Check that arguments are numbers.

    Raises:
        ValueError: if one is not.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} is {value!r}, expected a number")


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
_IGNORED_KEYS = ("ignored_bbox", "ignored_area", "ignored_crowd")
_METRIC_KEYS = ("bbox", "head_size", "area", *_IGNORED_KEYS)


def _of_people(value: Any, which: np.ndarray, dtype: type) -> np.ndarray:
    """The values of some people, out of a list for all people or a single value."""
    values = np.asarray(value, dtype).reshape(-1)
    return values[which] if len(values) > 1 else values[: len(which)]


def _boxes(given: Any, keypoints: np.ndarray, visible: np.ndarray, owner: str) -> np.ndarray:
    if given is not None:
        boxes = np.asarray(given, np.float64).reshape(-1, 4)
        if len(boxes) != len(keypoints):
            raise ValueError(f"{owner}: {len(boxes)} boxes for {len(keypoints)} people, expected one (xyxy) each")
        return boxes
    low = np.where(visible[..., None], keypoints, np.inf).min(1)
    high = np.where(visible[..., None], keypoints, -np.inf).max(1)
    return np.where(visible.any(1)[:, None], np.concatenate([low, high], 1), 0)


def inside(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whether points (... x 2, x and y) lie in an image of ``shape`` (H, W, ...)."""
    return ((points >= -0.5) & (points < np.array([shape[1], shape[0]]) - 0.5)).all(-1)
