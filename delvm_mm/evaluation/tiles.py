"""What was read from the tiles of an image, put together in pixels of that image."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from delvm_mm.codecs.box import box_of_largest
from delvm_mm.codecs.mapping import map_image_back, map_points_back

__all__ = ["join_tiles"]

_SAME_PLACE = 0.1  # of a person's size: keypoints of one person, read in two tiles
_SAME_MASK = 0.5  # of the smaller one's pixels in both tiles


def join_tiles(
    predictions: Sequence[Any],
    affines: Sequence[np.ndarray],
    boxes: Sequence[tuple[int, int, int, int]],
    shape: tuple[int, int],
) -> Any:
    """Put together what a codec read from each tile.

    Labels are those of the tile in which a pixel lies deepest, images are blended from one to the other; masks of
    instances that share half of the smaller one's pixels in both tiles are one, and so are people of whom the keypoints
    that both tiles show are, in the mean, within a tenth of their size; the better seen keypoint stays. A box is that
    of the largest region of all tiles' foreground. What no tile shows is 0.

    Args:
        predictions: Of the codec's ``decode``, T: images or maps, or dicts with ``keypoints``, ``bboxes`` and
            ``foreground``, or ``instance_map``.
        affines: 2 x 3 each, takes (x, y, 1) of the original image to the tile's image.
        boxes: Left, top, right and lower edge of each tile in pixels of the original, the latter two exclusive.
        shape: Height and width of the original.

    Returns:
        As one prediction, in pixels of the original.
    """
    first = predictions[0]
    depths = np.stack([_depth(box, shape) for box in boxes])
    if isinstance(first, dict) and "keypoints" in first:
        return _join_people(predictions, affines, shape)
    name = None if not isinstance(first, dict) else "foreground" if "foreground" in first else "instance_map"
    read = predictions if name is None else [one[name] for one in predictions]
    mapped = np.stack([map_image_back(one, affine, shape) for one, affine in zip(read, affines, strict=True)])
    if name == "instance_map":
        return dict(first, instance_map=_join_instances(mapped, depths))
    if name == "foreground":
        joined = _of_deepest(mapped, depths)
        return dict(bboxes=box_of_largest(joined), img_shape=tuple(shape), foreground=joined)
    if mapped.ndim == 4:
        # no deeper than a tenth of the image, so that only seams are blended
        weights = np.clip(depths, 0, 0.1 * max(shape))[..., None]
        total = np.maximum(weights.sum(0), 1e-6)
        return np.rint((weights * mapped).sum(0) / total).astype(mapped.dtype)
    return _of_deepest(mapped, depths)


def _depth(box: tuple[int, int, int, int], shape: tuple[int, int]) -> np.ndarray:
    """How far each pixel lies within a tile, H x W, 0 or less outside; the border of the image is no border of it."""
    left, top, right, lower = box
    x, y = np.arange(shape[1]), np.arange(shape[0])
    across = np.minimum(x - left + 1 if left > 0 else np.inf, right - x if right < shape[1] else np.inf)
    down = np.minimum(y - top + 1 if top > 0 else np.inf, lower - y if lower < shape[0] else np.inf)
    across, down = np.broadcast_to(across, x.shape), np.broadcast_to(down, y.shape)
    return np.minimum(np.minimum(across, down[:, None]), float(max(shape)))


def _of_deepest(maps: np.ndarray, depths: np.ndarray) -> np.ndarray:
    deepest = depths.argmax(0)
    joined = np.take_along_axis(maps, deepest[None], 0)[0]
    return np.where(depths.max(0) > 0, joined, 0).astype(maps.dtype)


def _join_instances(maps: np.ndarray, depths: np.ndarray) -> np.ndarray:
    """Instance maps of tiles (T x H x W) as one, int32, numbered by area, the largest first."""
    counts = maps.reshape(len(maps), -1).max(1).astype(int)
    before = np.cumsum([0, *counts[:-1]])
    apart = np.where(maps > 0, maps + before[:, None, None], 0).astype(np.int64)
    same = np.arange(counts.sum() + 1)
    for one in range(len(maps)):
        for other in range(one + 1, len(maps)):
            both = (depths[one] > 0) & (depths[other] > 0)
            for first, second in _overlapping(apart[one][both], apart[other][both], len(same)):
                low, high = sorted((same[first], same[second]))
                same[same == high] = low
    joined = same[_of_deepest(apart, depths)]
    numbers, places, areas = np.unique(joined, return_inverse=True, return_counts=True)
    order = np.argsort(np.where(numbers == 0, -np.inf, -areas), kind="stable")  # what is no mask stays first
    rank = np.empty(len(numbers), np.int32)
    rank[order] = np.arange(len(numbers)) + (0 if numbers[0] == 0 else 1)
    return rank[places].reshape(joined.shape)


def _overlapping(first: np.ndarray, second: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Numbers in two lists of the same pixels that share half of the smaller one's pixels."""
    masks = (first > 0) & (second > 0)
    pairs, shared = np.unique(first[masks] * count + second[masks], return_counts=True)
    areas = [np.bincount(numbers, minlength=count) for numbers in (first, second)]
    return [
        (pair // count, pair % count)
        for pair, pixels in zip(pairs.tolist(), shared.tolist(), strict=True)
        if pixels > _SAME_MASK * min(areas[0][pair // count], areas[1][pair % count])
    ]


def _join_people(predictions: Sequence[dict], affines: Sequence[np.ndarray], shape: tuple[int, int]) -> dict[str, Any]:
    points: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    visible: list[np.ndarray] = []
    for prediction, affine in zip(predictions, affines, strict=True):
        before = len(points)
        for place, score, seen in zip(
            map_points_back(prediction["keypoints"], affine),
            np.asarray(prediction["keypoint_scores"]),
            np.asarray(prediction["keypoints_visible"]),
            strict=True,
        ):
            known = [number for number in range(before) if _is_same(points[number], scores[number], place, score)]
            if known:
                number = known[0]
                better = score > scores[number]
                points[number] = np.where(better[:, None], place, points[number])
                scores[number] = np.where(better, score, scores[number])
                visible[number] = np.where(better, seen, visible[number])
            elif (score > 0).any():
                points.append(place)
                scores.append(score)
                visible.append(seen)
    if not points:
        return dict(predictions[0], img_shape=tuple(shape))
    single = all(len(prediction["keypoints"]) == 1 for prediction in predictions)
    kept = [int(np.argmax([score.sum() for score in scores]))] if single else range(len(points))
    return dict(
        keypoints=np.stack([points[number] for number in kept]).astype(np.float32),
        keypoint_scores=np.stack([scores[number] for number in kept]).astype(np.float32),
        keypoints_visible=np.stack([visible[number] for number in kept]).astype(np.float32),
        img_shape=tuple(shape),
    )


def _is_same(points: np.ndarray, scores: np.ndarray, others: np.ndarray, other_scores: np.ndarray) -> bool:
    common = (scores > 0) & (other_scores > 0)
    if not common.any():
        return False
    everything = np.concatenate([points[scores > 0], others[other_scores > 0]])
    size = max(float(np.ptp(everything, axis=0).max()), 1.0)
    return float(np.hypot(*(points[common] - others[common]).T).mean()) < _SAME_PLACE * size
