"""Masks of instances, whatever their class, scored by pycocotools: :class:`InstanceMetric`."""

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.evaluator import BaseMetric

from delvm_mm.registry import METRICS

if TYPE_CHECKING:
    from pycocotools.coco import COCO

_AREAS = ("small", "medium", "large")


@METRICS.register_module()
class InstanceMetric(BaseMetric):
    """How many true masks are found, and how well, without classes, as proposals are scored (Hosang et al., 2016).

    Each data sample has ``pred_instances`` and ``gt_instances``, dicts with ``masks`` (bool N x H x W), as
    ``RandomColorMaskCodec.to_fields`` gives them; ``scores`` of the predicted ones (N) decide which are counted where
    there are more than ``max_dets``.

    Results, in 0 to 1:

    * ``AR``: COCO's average recall, over IoU thresholds 0.5 to 0.95, by COCOeval without categories.
    * ``AR (small)``, ``AR (medium)``, ``AR (large)``: of masks up to 32^2, to 96^2, and larger.
    * ``AR@50``: recall at IoU 0.5.
    * ``matched_IoU``: mean IoU of true masks and the predicted ones that they are paired with, one to one, so that the
      sum is largest; 0 for those that get none.

    A result is NaN where there is no true mask of the kind.

    Args:
        max_dets: Most predicted masks of an image that are counted.
        collect_device: ``'cpu'`` or ``'gpu'``: where results of several processes are brought together.
        prefix: Put before the names of the results, with a slash.
    """

    default_prefix = "instances"

    def __init__(self, max_dets: int = 1000, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if isinstance(max_dets, bool) or not isinstance(max_dets, int) or max_dets < 1:
            raise ValueError(f"max_dets is {max_dets!r}, expected a number of masks, at least 1")
        self.max_dets = max_dets

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Encode the masks of a batch.

        Args:
            data_batch: Not used.
            data_samples: See the class.

        Raises:
            ValueError: Masks are missing, or those of an image differ in size.
        """
        for sample in data_samples:
            found, wanted = (_masks(sample, key) for key in ("pred_instances", "gt_instances"))
            if len(found) and len(wanted) and found.shape[1:] != wanted.shape[1:]:
                raise ValueError(
                    f"the predicted masks of {sample.get('img_path')} are {found.shape[1:]}, the true ones "
                    f"{wanted.shape[1:]} (height, width): resize the predicted ones"
                )
            scores = np.asarray(sample["pred_instances"].get("scores", np.ones(len(found))), float)
            kept = np.argsort(-scores, kind="stable")[: self.max_dets]
            self.results.append(
                {"found": _encoded(found[kept]), "wanted": _encoded(wanted), "scores": scores[kept].tolist()}
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Match, and sum up.

        Args:
            results: ``found`` and ``wanted``, COCO RLE of each image's masks, and ``scores`` of the found ones.

        Returns:
            See the class.
        """
        recalls = self._recalls(results)
        scores = {"AR": _mean(recalls[:, 0])}
        scores |= {f"AR ({name})": _mean(recalls[:, number]) for number, name in enumerate(_AREAS, 1)}
        scores["AR@50"] = _mean(recalls[:1, 0])
        matched = [_matched_iou(result["found"], result["wanted"]) for result in results]
        count = sum(len(result["wanted"]) for result in results)
        scores["matched_IoU"] = sum(matched) / count if count else float("nan")
        return scores

    def _recalls(self, results: list) -> np.ndarray:
        """Recall at each of the ten IoU thresholds, of masks of any size and of each of the three, T x 4."""
        from pycocotools import mask as coco_mask
        from pycocotools.cocoeval import COCOeval  # imports matplotlib, where this metric alone needs it

        truths, detections = [], []
        for image, result in enumerate(results, 1):
            for rle in result["wanted"]:
                area = float(coco_mask.area(rle))
                box = coco_mask.toBbox(rle).tolist()
                truths.append(_annotation(len(truths) + 1, image, rle, area) | {"bbox": box, "iscrowd": 0})
            for rle, score in zip(result["found"], result["scores"], strict=True):
                entry = _annotation(len(detections) + 1, image, rle, float(coco_mask.area(rle)))
                detections.append(entry | {"score": score, "iscrowd": 0})
        if not truths:
            return np.full((10, 4), np.nan)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            evaluation = COCOeval(_coco(results, truths), _coco(results, detections), "segm")
            evaluation.params.useCats = 0
            evaluation.params.maxDets = [self.max_dets]
            evaluation.evaluate()
            evaluation.accumulate()
        recalls = evaluation.eval["recall"][:, 0, :, 0]
        return np.where(recalls < 0, np.nan, recalls)


def _masks(sample: dict, key: str) -> np.ndarray:
    field = sample.get(key)
    masks = field.get("masks") if hasattr(field, "get") else None
    if masks is None:
        raise ValueError(
            f"InstanceMetric reads {key}.masks of a data sample, which has {sorted(sample)}: use it in a "
            "VisionPromptEvaluator with codec=dict(type='RandomColorMaskCodec')"
        )
    masks = np.asarray(masks)
    if masks.ndim != 3 or masks.dtype != bool:
        raise ValueError(
            f"{key}.masks of {sample.get('img_path')} are {masks.dtype} of shape {masks.shape}, expected bool N x H x W"
        )
    return masks


def _encoded(masks: np.ndarray) -> list[dict]:
    from pycocotools import mask as coco_mask

    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]


def _annotation(number: int, image: int, rle: dict, area: float) -> dict:
    return {"id": number, "image_id": image, "category_id": 1, "segmentation": rle, "area": area}


def _coco(results: list, annotations: list[dict]) -> "COCO":
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": number, **_size(result)} for number, result in enumerate(results, 1)],
        "categories": [{"id": 1, "name": "mask"}],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _size(result: dict) -> dict[str, int]:
    height, width = next((rle["size"] for rle in [*result["wanted"], *result["found"]]), (1, 1))
    return {"height": height, "width": width}


def _matched_iou(found: list[dict], wanted: list[dict]) -> float:
    """Sum of the IoU of pairs, one to one, that makes it largest."""
    if not (found and wanted):
        return 0.0
    from pycocotools import mask as coco_mask
    from scipy.optimize import linear_sum_assignment

    ious = coco_mask.iou(found, wanted, [0] * len(wanted))
    return float(ious[linear_sum_assignment(-ious)].sum())


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values))
