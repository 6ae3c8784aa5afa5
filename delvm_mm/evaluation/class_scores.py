"""Scores of single classes: IoU of each class of masks, PCK of each keypoint, means over classes of objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["ClassScores"]

IGNORED = 255  # as in mmseg's masks
PCK_THRESHOLD = 0.2  # of the longer side of the box, the usual one


class ClassScores:
    """Counts up what metrics of toolboxes only give the mean of.

    Args:
        dataset_meta: Of the codec: ``classes`` of masks, ``keypoint_id2name`` of keypoints.

    Examples:
        >>> scores = ClassScores(dict(classes=("background", "foreground")))
        >>> truth, answer = np.array([[0, 1], [0, 1]]), np.array([[0, 1], [1, 1]])
        >>> scores.add(dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=answer)))
        >>> {name: (round(iou, 1), count) for name, (iou, count) in scores.tables()["IoU of classes"].items()}
        {'background': (50.0, 2), 'foreground': (66.7, 2)}
    """

    def __init__(self, dataset_meta: Mapping[str, Any]) -> None:
        self.classes = list(dataset_meta.get("classes", ()))
        self.keypoints = list(dataset_meta.get("keypoint_id2name", {}).values())
        # Intersection, union and pixels of the truth; right ones and all of keypoints.
        self._pixels = np.zeros((3, len(self.classes)), np.int64)
        self._points = np.zeros((2, len(self.keypoints)), np.int64)
        self._objects: dict[str, dict[str, list[float]]] = {}

    def add(self, fields: Mapping[str, Any], scores: Mapping[str, float] | None = None) -> None:
        """Count one sample.

        Args:
            fields: What the metrics read: ``pred_sem_seg`` and ``gt_sem_seg`` (``data`` H x W or 1 x H x W), or
                ``pred_instances`` and ``gt_instances`` with ``keypoints`` N x K x 2, or neither; ``class_name`` where
                the sample shows an object of one class.
            scores: Of this sample alone, for means over classes of objects.
        """
        if self.classes and "pred_sem_seg" in fields and "gt_sem_seg" in fields:
            truth, answer = (np.asarray(fields[key]["data"]).squeeze() for key in ("gt_sem_seg", "pred_sem_seg"))
            counted = truth != IGNORED
            for number in range(len(self.classes)):
                true, drawn = (truth == number) & counted, (answer == number) & counted
                self._pixels[:, number] += (true & drawn).sum(), (true | drawn).sum(), true.sum()
        if self.keypoints and "keypoints" in fields.get("pred_instances", ()):
            people, drawn = fields["gt_instances"], fields["pred_instances"]
            visible = np.asarray(people["keypoints_visible"]).reshape(-1, len(self.keypoints)) > 0
            boxes = np.asarray(people["bboxes"], np.float64)
            size = (boxes[:, 2:] - boxes[:, :2]).max(1)
            off = np.linalg.norm(np.asarray(drawn["keypoints"]) - np.asarray(people["keypoints"]), axis=-1)
            with np.errstate(divide="ignore", invalid="ignore"):
                right = visible & (off / size[:, None] < PCK_THRESHOLD)
            self._points += right.sum(0), visible.sum(0)
        if fields.get("class_name"):
            for metric, value in (scores or {}).items():
                self._objects.setdefault(metric, {}).setdefault(str(fields["class_name"]), []).append(value)

    def merge(self, others: Sequence["ClassScores"]) -> None:
        """Add what others, of the same codec, have counted."""
        for other in others:
            self._pixels += other._pixels
            self._points += other._points
            for metric, classes in other._objects.items():
                for name, values in classes.items():
                    self._objects.setdefault(metric, {}).setdefault(name, []).extend(values)

    def tables(self) -> dict[str, dict[str, tuple[float, int]]]:
        """What was counted, in percent.

        Returns:
            Title -> class -> (score, how many pixels, keypoints or samples it is of); only of what there was. NaN for
            classes and keypoints that no sample shows.
        """
        tables = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            if self._pixels[1].any():
                iou = 100 * self._pixels[0] / self._pixels[1]
                tables["IoU of classes"] = _rows(self.classes, iou, self._pixels[2])
            if self._points[1].any():
                pck = 100 * self._points[0] / self._points[1]
                tables[f"PCK of keypoints (within {PCK_THRESHOLD} of the box)"] = _rows(
                    self.keypoints, pck, self._points[1]
                )
        for metric, classes in self._objects.items():
            tables[f"mean {metric} of single answers, by class of the object"] = {
                name: (float(np.mean(values)), len(values)) for name, values in classes.items()
            }
        return tables


def _rows(names: Sequence[str], scores: np.ndarray, counts: np.ndarray) -> dict[str, tuple[float, int]]:
    return {name: (float(score), int(count)) for name, score, count in zip(names, scores, counts, strict=True)}
