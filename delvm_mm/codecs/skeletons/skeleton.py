"""Body keypoints drawn as an OpenPose-colored skeleton, and such a skeleton read back."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from delvm_mm.codecs.skeletons.keypoints import KeypointCodec, check_numbers, inside
from delvm_mm.codecs.skeletons.openpose import COCO_KEYPOINTS, JOINTS, LIMB_OPACITY, check_body
from delvm_mm.codecs.skeletons.skeleton_groups import read_people
from delvm_mm.codecs.skeletons.skeleton_layout import OPENPOSE, layout_of
from delvm_mm.codecs.skeletons.skeleton_reader import READING_RADIUS, SUBPIXEL_BITS, fixed_point, read_person
from delvm_mm.registry import TASK_UTILS


@TASK_UTILS.register_module()
class SkeletonCodec(KeypointCodec):
    """COCO-17 keypoints as OpenPose-colored discs and limbs on black; one person is read back, or all of them.

    The annotation is ``dict(keypoints=N x 17 x 2 (x, y in pixels; pixel centers are whole numbers),
    keypoints_visible=N x 17 in 0..1 (or N x 17 x 1; COCO's 2 counts as visible), img_shape=(H, W))``; N may be 0.
    Keypoints outside the image, or not visible, are not drawn and not expected back. A neck, the mean of the
    shoulders, is drawn where both are visible. The prediction is the same dict with N at most ``max_people`` and
    ``keypoint_scores`` (N x 17 in 0..1): about 1 for a joint whose disc is seen, up to 0.5 for one that only its limbs
    betray, 0 for one that is not there; its coordinates are then a guess from its neighbors. With ``max_people=1`` the
    one of several people whose parts are seen best is read.

    Reading one: hue says which joint or limb a pixel belongs to, brightness tells discs from limbs; a joint may be at
    discs of its color, at the tips of its limbs, or under a disc that is drawn later; the best tree of such places,
    with limbs seen between them, is found exactly (pictorial structures, Felzenszwalb and Huttenlocher, 2005).

    Tolerance, as the part of visible keypoints within 0.1 of the longer side of the person's box, over random poses
    of 0.4 to 0.95 of the image, where discs cover each other:
    at 256 px with radius 8 0.98 clean, 0.975 after a blur (sigma 1.5), JPEG of quality 50 or noise (sigma 12), 0.92
    with hues off by 6 degrees and washed out; with radius 4 0.99, 0.98 and 0.95; at 64 px with radius 2 and thickness
    1 0.95 clean, 0.8 after that blur or JPEG. What is lost is joints that lie wholly under others.

    Reading all: discs are joined along the limbs between them, see :mod:`~delvm_mm.codecs.skeletons.skeleton_groups`.
    What becomes of real people, small ones and crowds, is in docs/people_and_instances.md: the smaller the discs are
    beside the people, the more of them come back.

    With ``metainfo`` other keypoints are drawn: animals, hands, whatever mmpose has links for, and read in the same
    way, one or all.

    Args:
        radius: of a joint's disc, in pixels, at least 1. The published images have 8; at 256 px 4 hides less, at
            64 px 2 is right. An image is to be read with the radius it was drawn with (a third off is borne).
        thickness: half the widest width of a limb, in pixels (the short half axis of its ellipse), at least 0.5 and
            not above ``radius``, as the ellipses' of OpenPose. Published: 4.
        visible_thr: keypoints are drawn, and said to be visible when read, where their visibility or score is above
            this value. In [0, 1).
        max_people: how many are read at most, the best seen ones first; COCO's evaluation counts 20 of an image. Above
            1 all people of the truth are scored, by ``mmpose.CocoMetric``; 1: the largest, by any metric of mmpose.
        metainfo: of mmpose, as :func:`delvm_mm.codecs.skeletons.skeleton_layout.layout_of` takes it: the keypoints,
            links and colors to draw. Default: COCO's 17, as OpenPose draws them.

    Raises:
        ImportError: if ``metainfo`` is a file and mmpose is missing.
        TypeError: if ``metainfo`` is of another type.
        ValueError: if an argument is not a number or outside its range, or ``metainfo`` has no links.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import SkeletonCodec
        >>> codec = SkeletonCodec(radius=4, thickness=2)
        >>> person = np.random.default_rng(0).uniform(20, 230, (1, 17, 2))
        >>> image = codec.encode(dict(keypoints=person, keypoints_visible=np.ones((1, 17)), img_shape=(256, 256)))
        >>> codec.decode(image)["keypoints"].shape
        (1, 17, 2)
    """

    palette = tuple(color for _, color in JOINTS)

    def __init__(
        self,
        radius: float = 8,
        thickness: float = 4,
        visible_thr: float = 0.3,
        max_people: int = 1,
        metainfo: Mapping[str, Any] | str | None = None,
    ) -> None:
        check_numbers(radius=radius, thickness=thickness)
        if not 1 <= radius < np.inf:
            raise ValueError(f"radius is {radius}, expected at least 1 pixel")
        if not 0.5 <= thickness <= radius:
            raise ValueError(f"thickness is {thickness}, expected 0.5 to the radius, {radius}, in pixels")
        super().__init__(visible_thr, max_people)
        self.radius = radius
        self.thickness = thickness
        self.layout = OPENPOSE if metainfo is None else layout_of(metainfo)
        if metainfo is not None:
            self.num_keypoints = len(self.layout.keypoints)
            self.palette = self.layout.colors
            self.dataset_meta = dict(
                dataset_name=self.layout.dataset_name,
                num_keypoints=self.num_keypoints,
                keypoint_id2name=dict(enumerate(self.layout.keypoints)),
                keypoint_name2id={name: number for number, name in enumerate(self.layout.keypoints)},
                flip_indices=list(self.layout.flip),
            )
            if self.layout.sigmas:
                self.dataset_meta["sigmas"] = np.array(self.layout.sigmas, np.float32)

    def _check_names(self, results: dict[str, Any]) -> None:
        if self.layout is OPENPOSE:
            check_body(results)
            return
        metainfo = getattr(results.get("dataset"), "metainfo", None) or {}
        names = tuple((metainfo.get("keypoint_id2name") or {}).values())
        if names and names != self.layout.keypoints:
            raise ValueError(
                f"{results.get('img_path')} ({metainfo.get('dataset_name')}) has the keypoints {', '.join(names)}, "
                f"expected those of the codec's metainfo, {', '.join(self.layout.keypoints)}"
            )

    def _read_person(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.layout.keypoints != COCO_KEYPOINTS:
            points, scores = self._read_people(image)
            if not len(points):
                middle = (np.array(image.shape[1::-1]) - 1) / 2
                return np.tile(middle, (self.num_keypoints, 1)), np.zeros(self.num_keypoints)
            best = int(scores.sum(1).argmax())
            return points[best], scores[best]
        read, size = self._at_reading_scale(image)
        points, scores = read_person(read)
        points = (points + 0.5) * image.shape[1::-1] / size - 0.5
        return points[self.layout.joint_of], scores[self.layout.joint_of]

    def _read_people(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        read, size = self._at_reading_scale(image)
        points, scores = read_people(read, self.layout)
        points = (points + 0.5) * image.shape[1::-1] / size - 0.5
        points, scores = points[:, self.layout.joint_of], scores[:, self.layout.joint_of]
        somebody = (scores > 0).any(1)  # not a neck alone
        return _at_the_mean_where_missing(points[somebody]), scores[somebody]

    def _at_reading_scale(self, image: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """The image with discs of ``READING_RADIUS``, and its width and height."""
        scale = READING_RADIUS / self.radius
        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        if scale == 1:
            return image, size
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), size

    def _draw_person(self, image: np.ndarray, keypoints: np.ndarray, visible: np.ndarray) -> None:
        points, drawn = self.layout.places(keypoints, visible)
        drawn &= inside(points, image.shape)
        for (parent, child), color in zip(self.layout.limbs, self.layout.limb_colors, strict=True):
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
        for point, shown, color in zip(points, drawn, self.layout.colors, strict=True):
            if shown:
                cv2.circle(image, fixed_point(point).tolist(), radius, color, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _at_the_mean_where_missing(points: np.ndarray) -> np.ndarray:
    """People (N x K x 2) with the mean of each one's keypoints in the place of those that are NaN."""
    missing = np.isnan(points[..., :1])
    known = np.where(missing, 0, points).sum(1, keepdims=True) / np.maximum((~missing).sum(1, keepdims=True), 1)
    return np.where(missing, known, points)


def _ellipse_outline(start: np.ndarray, end: np.ndarray, half_width: float) -> np.ndarray:
    """Polygon (72 x 2) of the ellipse whose long axis runs from ``start`` to ``end``."""
    along = (end - start) / 2
    length = np.hypot(*along)
    across = half_width * (np.array([-along[1], along[0]]) / length if length > 0 else np.array([0.0, 1.0]))
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)[:, None]
    return (start + end) / 2 + along * np.cos(angles) + across * np.sin(angles)
