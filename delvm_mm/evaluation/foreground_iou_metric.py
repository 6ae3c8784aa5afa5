"""Intersection over union of the foreground, over images and over classes: :class:`ForegroundIoUMetric`."""

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
            self.results.append(
                {
                    "intersection": int((predicted & wanted).sum()),
                    "union": int((predicted | wanted).sum()),
                    "class_id": None if class_id is None else int(class_id),
                    "class_name": str(sample.get("class_name", class_id)),
                }
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum up.

        Args:
            results: ``intersection`` and ``union`` in pixels, ``class_id`` and ``class_name`` of each
                image.

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


def _iou(results: list[dict]) -> float:
    union = sum(result["union"] for result in results)
    return 100 * sum(result["intersection"] for result in results) / union if union else float("nan")


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
