"""Mean squared error of colors in ImageNet's normalized space: :class:`NormalizedMSEMetric`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from delvm_mm.evaluation.metrics.restoration_metric import answer_and_truth, as_image, check_same_shape
from delvm_mm.registry import METRICS

IMAGENET_STD = (0.229, 0.224, 0.225)


@METRICS.register_module()
class NormalizedMSEMetric(BaseMetric):
    """Mean squared error of images that are divided by the deviations of ImageNet's channels, averaged over images.

    Colors are in 0 to 1 before; the mean of ImageNet's channels, which is subtracted too, has no part in a difference.
    This is how Bar et al., "Visual Prompting via Image Inpainting", NeurIPS 2022, score colorization. Each data sample
    has ``pred_img`` and ``gt_img``, dicts whose ``data`` is a uint8 H x W x 3 image (tensor or array, RGB).

    The result is ``MSE``; lower is better.

    Args:
        collect_device: ``'cpu'`` or ``'gpu'``: where results of several processes are brought together.
        prefix: Put before the name of the result, with a slash.
    """

    def __init__(self, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score a batch.

        Args:
            data_batch: Not used.
            data_samples: See the class.

        Raises:
            ValueError: A field is missing, or two images cannot be compared.
        """
        for sample in data_samples:
            prediction, truth = map(as_image, answer_and_truth(sample, self))
            check_same_shape(prediction, truth)
            difference = (prediction.astype(np.float64) - truth) / 255 / np.array(IMAGENET_STD)
            self.results.append(float(np.mean(difference**2)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over images.

        Args:
            results: Errors of each image.

        Returns:
            ``MSE``.
        """
        return {"MSE": float(np.mean(results))} if results else {}
