"""What data sets of mmseg and mmpose need to become clips: a task, their label maps, and images in RGB."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from delvm_mm.datasets.readers.io.label_map import read_label_values
from delvm_mm.datasets.transforms.base import BaseTransform
from delvm_mm.datasets.transforms.formatting import CHANNEL_ORDER, sample_name
from delvm_mm.registry import TRANSFORMS

__all__ = ["BGRToRGB", "LoadAnnotations", "SetTask"]

IGNORED = 255


@TRANSFORMS.register_module()
class SetTask(BaseTransform):
    """Name the task of a data set that does not know it: adds ``task``.

    Args:
        task: Such as 'seg'.

    Raises:
        ValueError: ``task`` is no name.
    """

    def __init__(self, task: str) -> None:
        if not isinstance(task, str) or not task:
            raise ValueError(f"SetTask: task is {task!r}, expected a name, such as 'seg'")
        self.task = task

    def transform(self, results: dict) -> dict:
        """Set the task."""
        results["task"] = self.task
        return results


@TRANSFORMS.register_module()
class BGRToRGB(BaseTransform):
    """Turn ``img`` from BGR, as mmcv's loaders give it, into RGB.

    To be put right behind ``LoadImageFromFile`` of mmcv (which is that of mmseg and mmpretrain too) or ``LoadImage`` of
    mmpose. ``LoadImage`` of this package gives RGB and needs none.
    """

    def transform(self, results: dict) -> dict:
        """Turn the image.

        Returns:
            ``results``, with an RGB ``img``.

        Raises:
            ValueError: There is no image, it has not three channels, or it is known to be RGB.
        """
        image = results.get("img")
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"BGRToRGB needs 'img' of H x W x 3 in the results of {sample_name(results)}")
        if results.get(CHANNEL_ORDER) == "rgb":
            raise ValueError(f"BGRToRGB: the image of {sample_name(results)} is RGB already: leave BGRToRGB out")
        results["img"] = np.ascontiguousarray(image[..., ::-1])
        results[CHANNEL_ORDER] = "rgb"
        return results


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """Read the label map ``seg_map_path`` of an mmseg data set to ``gt_seg_map``, uint8 or uint16 H x W.

    As mmseg's transform of this name (which works too), the data set's ``reduce_zero_label`` (0 becomes 255, which is
    left out of scores, the others go down by one) and then its ``label_map`` are applied; then that given here, where
    0 is to become what codecs take for the background.

    Args:
        label_map: Value -> label, e.g. ``{1: 1, 2: 0, 3: 255}`` for the trimaps of Oxford-IIIT Pet. Values that it does
            not name are an error, but for 255, which stays. By default all stay.
        reduce_zero_label: In place of the data set's.

    Raises:
        ValueError: ``label_map`` is none.

    Example:
        >>> pipeline = [
        ...     dict(type="LoadImage"),
        ...     dict(type="LoadAnnotations", label_map={1: 1, 2: 0, 3: 255}),
        ...     dict(type="SetTask", task="seg"),
        ... ]
    """

    def __init__(self, label_map: Mapping[int, int] | None = None, reduce_zero_label: bool | None = None) -> None:
        self.label_map = None if label_map is None else _checked(label_map)
        self.reduce_zero_label = reduce_zero_label

    def transform(self, results: dict) -> dict:
        """Read the label map.

        Returns:
            ``results``, with ``gt_seg_map``.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no label map, or holds values without a label.
        """
        path = results.get("seg_map_path")
        if path is None:
            raise ValueError(
                f"LoadAnnotations needs 'seg_map_path' in the results of {sample_name(results)}, which have "
                f"{sorted(results)}: use a data set of label maps"
            )
        labels = read_label_values(path)
        reduce = results.get("reduce_zero_label") if self.reduce_zero_label is None else self.reduce_zero_label
        if reduce:
            kept = (labels != 0) & (labels != IGNORED)
            labels = np.where(kept, labels - 1, IGNORED).astype(labels.dtype)
        if of_dataset := results.get("label_map"):
            labels = self._mapped(labels, {int(value): int(label) for value, label in of_dataset.items()}, None)
        if self.label_map is not None:
            labels = self._mapped(labels, self.label_map, path)
        elif not reduce and not of_dataset and set(np.unique(labels).tolist()) == {0, IGNORED}:
            raise ValueError(
                f"{path} holds 0 and {IGNORED} alone, and {IGNORED} is what scores leave out: say which it is, "
                f"label_map={{0: 0, {IGNORED}: 1}} of LoadAnnotations for an object in white, or "
                f"{{0: 0, {IGNORED}: {IGNORED}}}"
            )
        results["gt_seg_map"] = labels
        results.setdefault("seg_fields", []).append("gt_seg_map")
        return results

    @staticmethod
    def _mapped(labels: np.ndarray, label_map: dict[int, int], path: Any) -> np.ndarray:
        """Labels of values; those that the map does not name stay, or are an error of the file ``path``."""
        values = np.unique(labels).tolist()
        unknown = [value for value in values if value not in label_map and value != IGNORED]
        if path is not None and unknown:
            raise ValueError(
                f"{path} holds the values {unknown[:5]}, label_map names {sorted(label_map)}: add them to label_map, "
                f"as {IGNORED} where scores should leave them out"
            )
        table = np.arange(max(values) + 1)
        for value, label in label_map.items():
            if 0 <= value < len(table):
                table[value] = label
        return table[labels].astype(np.uint8 if table[values].max() < 2**8 else np.uint16)


def _checked(label_map: Mapping[int, int]) -> dict[int, int]:
    try:  # --cfg-options and JSON know only text as keys
        checked = {int(value): int(label) for value, label in label_map.items()}
    except (TypeError, ValueError, AttributeError):
        checked = {}
    if not checked or not all(0 <= number < 2**16 for pair in checked.items() for number in pair):
        raise ValueError(
            f"LoadAnnotations: label_map is {label_map!r}, expected value -> label, whole numbers from 0 to 65535"
        )
    return checked
