"""F-measure of edges with a tolerance: :class:`EdgeMetric`."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric

from delvm_mm.evaluation.metrics.restoration_metric import answer_and_truth, as_image, check_same_shape
from delvm_mm.registry import METRICS

LEVELS = tuple(range(32, 256, 32))


@METRICS.register_module()
class EdgeMetric(BaseMetric):
    """F-measure of drawn edges, where an edge may be off by a few pixels.

    A pixel of the answer is right where a true edge is within the tolerance, a true edge is found where one of the
    answer is. Precision and recall are sums over all images. The answer is cut at one gray level for the whole data
    set: the best of several, as ODS ("optimal dataset scale") on BSDS500 is. Unlike there, a true edge may be near to
    several pixels of the answer: thick edges cost nothing as long as they stay within the tolerance.

    Each data sample has ``pred_img`` and ``gt_img``, dicts whose ``data`` is a uint8 H x W x 3 image (tensor or array,
    RGB), edges bright; the truth is cut at 128. Results, in 0 to 100: ``Fscore``, ``Precision`` and ``Recall`` at the
    best level. Where there is no edge at all they are NaN.

    Args:
        tolerance: Largest distance, as a part of the image's diagonal; 0.0075 is that of BSDS500, at least one pixel.
        levels: Gray levels to try, 1 to 255.
        collect_device: ``'cpu'`` or ``'gpu'``: where results of several processes are brought together.
        prefix: Put before the names of the results, with a slash.

    Raises:
        ValueError: An argument is out of range.
    """

    default_prefix = "edges"

    def __init__(
        self,
        tolerance: float = 0.0075,
        levels: Sequence[int] = LEVELS,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not 0 <= tolerance < 1:
            raise ValueError(f"tolerance is {tolerance!r}, expected a part of the diagonal in [0, 1)")
        if not levels or not all(isinstance(level, int) and 1 <= level <= 255 for level in levels):
            raise ValueError(f"levels are {levels!r}, expected gray levels from 1 to 255")
        self.tolerance, self.levels = tolerance, tuple(levels)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count edges of a batch.

        Args:
            data_batch: Not used.
            data_samples: See the class.

        Raises:
            ValueError: A field is missing, or two images cannot be compared.
        """
        for sample in data_samples:
            prediction, truth = (as_image(image).mean(2) for image in answer_and_truth(sample, self))
            check_same_shape(prediction, truth)
            reach = max(1.0, self.tolerance * float(np.hypot(*truth.shape)))
            true = truth >= 128
            near_truth = _near(true, reach)
            counts = []
            for level in self.levels:
                drawn = prediction >= level
                found = (true & _near(drawn, reach)).sum()
                counts.append(((drawn & near_truth).sum(), drawn.sum(), found, true.sum()))
            self.results.append(np.array(counts))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum up.

        Args:
            results: For each image and level: edge pixels of the answer that are right, all of them, true edge pixels
                that are found, all of them.

        Returns:
            See the class.
        """
        if not results:
            return {}
        right, drawn, found, true = np.sum(results, axis=0).T.astype(float)
        with np.errstate(invalid="ignore"):
            precision, recall = right / drawn, found / true
            scores = 2 * precision * recall / (precision + recall)
        scores = np.where(np.isnan(scores) & (true > 0), 0, scores)
        best = int(np.argmax(scores))
        values = scores[best], precision[best], recall[best]
        return {name: 100 * float(value) for name, value in zip(("Fscore", "Precision", "Recall"), values, strict=True)}


def _near(edges: np.ndarray, reach: float) -> np.ndarray:
    """Where an edge is within ``reach`` pixels."""
    if not edges.any():
        return np.zeros_like(edges)
    distance = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance <= reach + 1e-4
