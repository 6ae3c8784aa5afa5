"""Intersection over union of the foreground, over images and over classes: all together, and by folds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from delvm_mm.registry import METRICS


@METRICS.register_module()
class ForegroundIoUMetric(BaseMetric):
    """IoU of the foreground alone, times 100, as visual prompting and few-shot segmentation are scored.

    Each data sample has ``pred_sem_seg`` and ``gt_sem_seg``, dicts (or ``PixelData``) whose ``data`` is a map, H x W or
    1 x H x W, tensor or array: 0 is background, ``ignore_index`` in the truth is left out, anything else is foreground.
    Samples of class-wise sets such as Pascal-5i have ``class_id`` too, and ``class_name`` if it is known.

    Results, in 0 to 100:

    * ``IoU``: all intersections over all unions.
    * ``mIoU_image``: mean over images of each one's IoU, the protocol of Bar et al., "Visual Prompting via Image
      Inpainting", NeurIPS 2022. Images without foreground in truth and prediction have none and are left out.
    * ``mIoU``: mean over classes of all intersections over all unions of the class, the protocol of Shaban et al.,
      "One-Shot Learning for Semantic Segmentation", BMVC 2017; and ``IoU_<class_name>`` of each class. Only where
      every sample has ``class_id``.

    A result is NaN where there is no foreground at all. ``mmseg.IoUMetric`` averages foreground and background.

    Args:
        ignore_index: Value of the truth that is not scored.
        collect_device: ``'cpu'`` or ``'gpu'``: where results of several processes are brought together.
        prefix: Put before the names of the results, with a slash.
    """

    def __init__(self, ignore_index: int = 255, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score a batch.

        Args:
            data_batch: Not used.
            data_samples: See the class.

        Raises:
            ValueError: A field is missing, or two maps cannot be compared.
        """
        for sample in data_samples:
            prediction, truth = (_as_map(sample, key) for key in ("pred_sem_seg", "gt_sem_seg"))
            if prediction.shape != truth.shape:
                raise ValueError(
                    f"the predicted map of {sample.get('img_path')} is {prediction.shape}, the true one {truth.shape}: "
                    "expected the same height and width"
                )
            scored = truth != self.ignore_index
            predicted, wanted = (prediction != 0) & scored, (truth != 0) & scored
            class_id = sample.get("class_id")
            intersection, union = int((predicted & wanted).sum()), int((predicted | wanted).sum())
            self.results.append(
                {
                    "intersection": intersection,
                    "union": union,
                    "background_intersection": int(scored.sum()) - union,
                    "background_union": int(scored.sum()) - intersection,
                    "class_id": None if class_id is None else int(class_id),
                    "class_name": str(sample.get("class_name", class_id)),
                    "fold": sample.get("fold"),
                }
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum up.

        Args:
            results: ``intersection`` and ``union`` in pixels, those of the background, ``class_id``, ``class_name``
                and ``fold`` of each image.

        Returns:
            See the class.
        """
        if not results:
            return {}
        per_image = [_iou([result]) for result in results if result["union"]]
        scores = {"IoU": _iou(results), "mIoU_image": _mean(per_image)}
        classes: dict[tuple, list] = {}
        for result in results:
            classes.setdefault((result["class_id"], result["class_name"]), []).append(result)
        if not any(class_id is None for class_id, _ in classes):
            of_class = {name: _iou(classes[class_id, name]) for class_id, name in sorted(classes)}
            scores["mIoU"] = _mean([score for score in of_class.values() if not np.isnan(score)])
            scores |= {f"IoU_{name}": score for name, score in of_class.items()}
        return scores


@METRICS.register_module()
class FoldIoUMetric(ForegroundIoUMetric):
    """IoU of the foreground by the published protocols, of each fold and their mean, times 100.

    Data samples are those of :class:`ForegroundIoUMetric`; where they have ``fold``, a result of each fold is named
    ``<result>_fold0`` and so on, and the result without it is the mean over folds.

    * ``over='queries'``: ``IoU``, the mean over queries of each one's IoU, as Bar et al. ("Visual Prompting via Image
      Inpainting", NeurIPS 2022) score segmentation and detection. Queries without foreground in truth and answer have
      none and are left out.
    * ``over='classes'``: ``mIoU``, the mean over the classes that were asked for of all intersections over all unions
      of the class, and ``FB-IoU``, the mean of foreground and background of all classes together: few-shot
      segmentation, as HSNet (Min et al., ICCV 2021) and others score it. Every sample needs ``class_id``.

    Args:
        over: 'queries' or 'classes'.
        **kwargs: Of :class:`ForegroundIoUMetric`.

    Raises:
        ValueError: ``over`` is another.
    """

    def __init__(self, over: str = "queries", **kwargs: Any) -> None:
        if over not in ("queries", "classes"):
            raise ValueError(f"over is {over!r}, expected 'queries' or 'classes'")
        super().__init__(**kwargs)
        self.over = over

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum up.

        Args:
            results: As of :class:`ForegroundIoUMetric`.

        Returns:
            See the class; the means first.

        Raises:
            ValueError: Classes are asked for, and a sample has none; or some samples have a fold and some have none.
        """
        folds: dict[Any, list] = {}
        for result in results:
            folds.setdefault(result["fold"], []).append(result)
        if None in folds:
            if len(folds) > 1:
                raise ValueError("FoldIoUMetric: some samples have a fold, others none; score them apart")
            return self._of_fold(results)
        scores = {fold: self._of_fold(folds[fold]) for fold in sorted(folds)}
        names = next(iter(scores.values()), {})
        means = {name: _mean([score[name] for score in scores.values() if not np.isnan(score[name])]) for name in names}
        return means | {f"{name}_fold{fold}": score[name] for name in names for fold, score in scores.items()}

    def _of_fold(self, results: list[dict]) -> dict[str, float]:
        if self.over == "queries":
            return {"IoU": _mean([_iou([result]) for result in results if result["union"]])}
        classes: dict[int, list] = {}
        for result in results:
            if result["class_id"] is None:
                raise ValueError("FoldIoUMetric(over='classes') needs class_id of every sample; use over='queries'")
            classes.setdefault(result["class_id"], []).append(result)
        of_class = [_iou(of_one) for of_one in classes.values()]
        both = [_iou(results), _iou(results, "background_")]
        return {
            "mIoU": _mean([score for score in of_class if not np.isnan(score)]),
            "FB-IoU": _mean([score for score in both if not np.isnan(score)]),
        }


def _iou(results: list[dict], of: str = "") -> float:
    union = sum(result[f"{of}union"] for result in results)
    return 100 * sum(result[f"{of}intersection"] for result in results) / union if union else float("nan")


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _as_map(sample: dict, key: str) -> np.ndarray:
    field = sample.get(key)
    data = field.get("data") if hasattr(field, "get") else None
    if data is None:
        raise ValueError(
            f"ForegroundIoUMetric reads {key}.data of a data sample, which has {sorted(sample)}: use it in a "
            "VisionPromptEvaluator with codec=dict(type='ForegroundMaskCodec')"
        )
    values = data.detach().cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise ValueError(
            f"{key} is {values.dtype} of shape {values.shape}, expected integers or bool, H x W or 1 x H x W"
        )
    return values
