"""A foreground mask drawn in two colors, and such a drawing thresholded back to a mask."""

from typing import Any

import numpy as np

from delvm_mm.codecs.base import LabelCodec, check_color, check_image, pick
from delvm_mm.registry import TASK_UTILS


@TASK_UTILS.register_module()
class ForegroundMaskCodec(LabelCodec):
    """Foreground in one color on a background of another; read back by a threshold between the two.

    The annotation is a mask (``results['gt_seg_map']``), H x W, bool or integer: 0 is background, ``ignore_index`` is
    left out of the score (and drawn as background), anything else is foreground. The prediction is uint8, H x W, of 0
    and 1. Clean images come back exactly; a blur (sigma 1.5), JPEG of quality 50 or Gaussian noise (sigma 12) of
    shapes that fill a tenth of a 256 px image or more leave an IoU above 0.95.

    Args:
        foreground: RGB of the foreground. Default: white.
        background: RGB of everything else. Default: black, as Pascal-5i prompts are drawn (Bar et al., 2022).
        threshold: where a pixel becomes foreground on the straight way from ``background`` (0) to ``foreground``
            (1) in RGB; the pixel is projected on that line. For black and white this is a gray level. In (0, 1).
        ignore_index: value of the annotation that says "do not score here", not 0.

    Raises:
        ValueError: if a value is not a number or outside its range, or the two colors are the same.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import ForegroundMaskCodec
        >>> codec = ForegroundMaskCodec(foreground=(255, 0, 0))
        >>> codec.decode(codec.encode(np.array([[0, 1], [3, 255]]))).tolist()
        [[0, 1], [1, 0]]
    """

    def __init__(
        self,
        foreground: tuple[int, int, int] = (255, 255, 255),
        background: tuple[int, int, int] = (0, 0, 0),
        threshold: float = 0.5,
        ignore_index: int = 255,
    ) -> None:
        self.foreground = check_color(foreground, "foreground")
        self.background = check_color(background, "background")
        if self.foreground == self.background:
            raise ValueError(f"foreground and background are both {self.foreground}, expected two different colors")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise ValueError(f"threshold is {threshold!r}, expected a number between 0 and 1")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is {threshold}, expected a value between 0 (background) and 1 (foreground)")
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
            raise ValueError(f"ignore_index is {ignore_index!r}, expected an integer")
        if ignore_index == 0:
            raise ValueError("ignore_index is 0, which is the background; give a value that no class has, e.g. 255")
        self.threshold = float(threshold)
        self.ignore_index = ignore_index
        self.palette = (self.background, self.foreground)
        self.dataset_meta = dict(classes=("background", "foreground"), palette=[list(color) for color in self.palette])

    def encode(self, annotation: np.ndarray) -> np.ndarray:
        """Draw a mask.

        Args:
            annotation: H x W, bool or integer; 0 and ``ignore_index`` are drawn as background, the rest as foreground.

        Returns:
            RGB image, uint8, H x W x 3.

        Raises:
            TypeError: if the mask is not an array of bool or integers.
            ValueError: if it is not H x W.
        """
        is_foreground = self._labels(annotation, "encode") == 1
        return np.array(self.palette, np.uint8)[is_foreground.astype(np.intp)]

    def decode(self, image: np.ndarray) -> np.ndarray:
        """Read a mask.

        Args:
            image: RGB, uint8, H x W x 3.

        Returns:
            uint8, H x W: 1 where the pixel is nearer to the foreground than ``threshold``, else 0.

        Raises:
            TypeError: if the image is not a uint8 array.
            ValueError: if it is not H x W x 3.
        """
        check_image(image, "ForegroundMaskCodec.decode")
        origin = np.array(self.background, np.float32)
        way = np.array(self.foreground, np.float32) - origin
        position = (image.astype(np.float32) - origin) @ (way / (way @ way))
        return (position > self.threshold).astype(np.uint8)

    def annotation_of(self, results: dict[str, Any]) -> np.ndarray:
        """Return ``results['gt_seg_map']``, H x W.

        Raises:
            ValueError: if the field is missing.
        """
        return pick(results, "gt_seg_map", "ForegroundMaskCodec")

    def to_fields(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
        """Lay out truth and prediction as ``mmseg.IoUMetric`` reads them.

        Args:
            truth: the annotation, H x W.
            prediction: what :meth:`decode` gave, H x W of 0 and 1.

        Returns:
            ``pred_sem_seg`` and ``gt_sem_seg``, each a dict with ``data``: int64, 1 x H x W; the truth holds 0, 1 and
            255 where the annotation holds ``ignore_index``: the value that the metric ignores by default.

        Raises:
            TypeError: if one of them is not an array of bool or integers.
            ValueError: if one of them is not H x W, the sizes differ or the prediction holds other values.
        """
        labels = self._labels(truth, "to_fields, truth")
        predicted = np.asarray(prediction)
        if predicted.shape != labels.shape:
            raise ValueError(
                f"ForegroundMaskCodec: the truth is {labels.shape}, the prediction {predicted.shape}; "
                "resize the prediction to the size of the truth"
            )
        if predicted.dtype.kind not in "bui":
            raise TypeError(f"ForegroundMaskCodec: the prediction is {predicted.dtype}, expected integers 0 and 1")
        if predicted.size and (predicted.min() < 0 or predicted.max() > 1):
            raise ValueError(f"ForegroundMaskCodec: the prediction holds {np.unique(predicted)[:5]}, expected 0 and 1")
        return dict(pred_sem_seg=dict(data=predicted[None].astype(np.int64)), gt_sem_seg=dict(data=labels[None]))

    def _labels(self, annotation: np.ndarray, where: str) -> np.ndarray:
        """Check an annotation and return int64, H x W of 0, 1 and 255 (ignored)."""
        if not isinstance(annotation, np.ndarray) or annotation.dtype.kind not in "bui":
            given = annotation.dtype if isinstance(annotation, np.ndarray) else type(annotation).__name__
            raise TypeError(f"ForegroundMaskCodec.{where}: got {given}, expected a numpy mask of bool or integers")
        if annotation.ndim != 2 or 0 in annotation.shape:
            raise ValueError(f"ForegroundMaskCodec.{where}: got shape {annotation.shape}, expected a mask H x W")
        labels = (annotation != 0).astype(np.int64)
        if annotation.dtype.kind != "b":
            labels[annotation == self.ignore_index] = 255
        return labels
