"""How much of an image a tokenizer keeps: :class:`ReconstructionMetric`."""

from typing import Any

from delvm_mm.evaluation.metrics.restoration_metric import RestorationMetric
from delvm_mm.registry import METRICS


@METRICS.register_module()
class ReconstructionMetric(RestorationMetric):
    """PSNR and SSIM of an image that went through a tokenizer and back, averaged over images.

    Each data sample has ``reconstruction`` and ``image``: H x W x 3, RGB, uint8 or float in [0, 1] (rounded to 8
    bits, as a saved image is). Arguments and results are those of :class:`RestorationMetric`.
    """

    default_prefix = "reconstruction"

    def images_of(self, data_sample: dict) -> tuple[Any, Any]:
        """Pick the reconstruction and the image that was tokenized out of a data sample."""
        try:
            return data_sample["reconstruction"], data_sample["image"]
        except KeyError as err:
            raise ValueError(
                f"{type(self).__name__} reads reconstruction and image of a data sample, and {err} is missing"
            ) from err
