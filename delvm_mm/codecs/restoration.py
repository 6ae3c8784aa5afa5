"""Tasks whose annotation is itself an image: deraining, deblurring, denoising."""

from typing import Any

import numpy as np

from delvm_mm.codecs.base import LabelCodec, check_image, pick
from delvm_mm.registry import TASK_UTILS


@TASK_UTILS.register_module()
class RestorationCodec(LabelCodec):
    """Passes the clean image through; there is nothing to draw, only to check.

    The annotation is the clean image (``results['gt_img']``: RGB, uint8, H x W x 3), and so is the prediction;
    ``decode(encode(a))`` equals ``a`` exactly. There is no background and no palette: every color is itself.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import RestorationCodec
        >>> clean = np.full((4, 4, 3), 200, np.uint8)
        >>> bool((RestorationCodec().decode(clean) == clean).all())
        True
    """

    restores = True

    def encode(self, annotation: np.ndarray) -> np.ndarray:
        """Return the clean image.

        Args:
            annotation: RGB, uint8, H x W x 3.

        Returns:
            A copy of it.

        Raises:
            TypeError: if it is not a uint8 array.
            ValueError: if it is not H x W x 3.
        """
        return check_image(annotation, "RestorationCodec.encode").copy()

    def decode(self, image: np.ndarray) -> np.ndarray:
        """Return the image that the model wrote.

        Args:
            image: RGB, uint8, H x W x 3.

        Returns:
            A copy of it.

        Raises:
            TypeError: if it is not a uint8 array.
            ValueError: if it is not H x W x 3.
        """
        return check_image(image, "RestorationCodec.decode").copy()

    def annotation_of(self, results: dict[str, Any]) -> np.ndarray:
        """Return ``results['gt_img']``, H x W x 3.

        Raises:
            ValueError: if the field is missing.
        """
        return pick(results, "gt_img", "RestorationCodec")

    def to_fields(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
        """Lay out the two images as metrics of restoration read them.

        Args:
            truth: clean image, uint8, H x W x 3.
            prediction: restored image, uint8, H x W x 3, of the same size.

        Returns:
            ``pred_img`` and ``gt_img``, each a dict with ``data``: uint8, H x W x 3.

        Raises:
            TypeError: if one of them is not a uint8 array.
            ValueError: if one of them is not H x W x 3 or the sizes differ.
        """
        check_image(truth, "RestorationCodec.to_fields, truth")
        check_image(prediction, "RestorationCodec.to_fields, prediction")
        if truth.shape != prediction.shape:
            raise ValueError(
                f"RestorationCodec: the truth is {truth.shape}, the prediction {prediction.shape}; "
                "resize both to one size before they are compared"
            )
        return dict(pred_img=dict(data=prediction), gt_img=dict(data=truth))
