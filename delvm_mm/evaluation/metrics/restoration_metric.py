"""PSNR and SSIM of restored images: :class:`RestorationMetric`, and the functions that compute them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from delvm_mm.registry import METRICS
from delvm_mm.toolboxes import require_toolbox

SSIM_WINDOW = 11  # pixels a side, of Wang et al., 2004


@METRICS.register_module()
class RestorationMetric(BaseMetric):
    """PSNR (dB) and SSIM of each image against its clean one, averaged over images.

    Images are 8-bit with data range 255. ``'rgb'`` scores the three channels together (PSNR: one mean squared
    error; SSIM: mean of the channels). ``'y'`` scores luma as papers on deraining do with MATLAB's ``rgb2ycbcr``:
    ITU-R BT.601, Y from 16 to 235, rounded to 8 bits, data range still 255. SSIM has the 11-pixel Gaussian window
    (sigma 1.5) of Wang et al., "Image Quality Assessment", 2004, and covers the pixels where the whole window fits.

    Each data sample has ``pred_img`` and ``gt_img``, dicts whose ``data`` is a uint8 H x W x 3 image (tensor or
    array, RGB).

    Results are ``PSNR``, ``SSIM``, ``PSNR_Y`` and ``SSIM_Y``. Identical images have an infinite PSNR, and so has
    then the average.

    Args:
        channels: What to score, of ``'rgb'`` and ``'y'``.
        collect_device: ``'cpu'`` or ``'gpu'``: where results of several processes are brought together.
        prefix: Put before the names of the results, with a slash.

    Raises:
        ValueError: A channel is unknown.
    """

    default_prefix = "restoration"

    def __init__(
        self, channels: Sequence[str] = ("rgb", "y"), collect_device: str = "cpu", prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        channels = (channels,) if isinstance(channels, str) else tuple(channels)
        if not channels or not set(channels) <= {"rgb", "y"}:
            raise ValueError(f"channels must be some of 'rgb' and 'y', got {channels!r}")
        self.channels = channels

    def images_of(self, data_sample: dict) -> tuple[Any, Any]:
        """Pick the image to score and the one to score it against out of a data sample."""
        return answer_and_truth(data_sample, self)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score a batch.

        Args:
            data_batch: Not used.
            data_samples: See the class.

        Raises:
            ValueError: A field is missing, or two images cannot be compared.
        """
        for data_sample in data_samples:
            prediction, truth = (as_image(image) for image in self.images_of(data_sample))
            scores = {}
            if "rgb" in self.channels:
                scores["PSNR"], scores["SSIM"] = psnr_and_ssim(prediction, truth)
            if "y" in self.channels:
                scores["PSNR_Y"], scores["SSIM_Y"] = psnr_and_ssim(luma(prediction), luma(truth))
            self.results.append(scores)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over images.

        Args:
            results: Scores of each image.

        Returns:
            Means, under the same names.
        """
        return {name: float(np.mean([scores[name] for scores in results])) for name in (results[0] if results else ())}


def answer_and_truth(data_sample: dict, metric: BaseMetric) -> tuple[Any, Any]:
    """The two images of a restoration.

    Args:
        data_sample: With ``pred_img.data`` and ``gt_img.data``.
        metric: Who asks, for the message.

    Returns:
        The answer and the truth, as they are.

    Raises:
        ValueError: A field is missing.
    """
    try:
        return data_sample["pred_img"]["data"], data_sample["gt_img"]["data"]
    except KeyError as err:
        raise ValueError(
            f"{type(metric).__name__} reads pred_img.data and gt_img.data of a data sample, and {err} is missing: "
            "use it in a VisionPromptEvaluator with codec=dict(type='RestorationCodec')"
        ) from err


def check_same_shape(prediction: np.ndarray, truth: np.ndarray) -> None:
    """A ValueError unless two images can be compared pixel by pixel."""
    if prediction.shape != truth.shape:
        raise ValueError(f"cannot compare an image of shape {prediction.shape} with one of {truth.shape}")


def as_image(image: np.ndarray | torch.Tensor) -> np.ndarray:
    """Bring an image to the 8 bits it would be saved with.

    Args:
        image: H x W x 3, uint8, or float in [0, 1].

    Returns:
        uint8 H x W x 3.

    Raises:
        ValueError: Another shape, type or range.
    """
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        image = (image.float() if image.is_floating_point() else image).numpy()
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an image of shape H x W x 3, got {image.shape}")
    if np.issubdtype(image.dtype, np.floating):
        # A NaN fails this comparison too.
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(
                f"an image of floats lies in [0, 1], got {image.min()} to {image.max()}: clamp or rescale it"
            )
        return np.rint(image * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"expected an image of uint8, or of floats in [0, 1], got {image.dtype}")
    return image


def luma(image: np.ndarray) -> np.ndarray:
    """Y of YCbCr as MATLAB's ``rgb2ycbcr`` gives it for 8 bits (ITU-R BT.601, 16 to 235, rounded).

    Args:
        image: uint8 H x W x 3, RGB.

    Returns:
        uint8 H x W x 1.
    """
    return require_toolbox("mmcv").rgb2ycbcr(image, y_only=True)[..., None]


def psnr_and_ssim(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """PSNR in dB (infinite for identical images) and SSIM of two 8-bit images.

    Args:
        prediction: uint8 H x W x C.
        truth: The same shape.

    Returns:
        PSNR and SSIM.

    Raises:
        ValueError: Shapes differ, or a side is shorter than the window of SSIM.
    """
    # Importing torchmetrics takes seconds, and this module is imported for any metric of this package.
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    check_same_shape(prediction, truth)
    if min(prediction.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW} pixels a side, got an image of {prediction.shape[:2]}")
    # Double precision: the variances of SSIM are small differences of large squares.
    pair = [torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None] for image in (prediction, truth)]
    psnr = peak_signal_noise_ratio(*pair, data_range=255.0)
    # Whether its own mean covers the padded border depends on torchmetrics' version; the map does not.
    _, ssim = structural_similarity_index_measure(
        *pair, data_range=255.0, kernel_size=SSIM_WINDOW, sigma=1.5, return_full_image=True
    )
    border = SSIM_WINDOW // 2
    return float(psnr), float(ssim[..., border:-border, border:-border].mean())
