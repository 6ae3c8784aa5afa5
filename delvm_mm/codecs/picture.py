"""Tasks whose annotation is itself a picture: deraining, deblurring, denoising."""

from typing import Any

import numpy as np

from delvm_mm.registry import TASK_UTILS

from .base import LabelCodec, check_picture, pick


@TASK_UTILS.register_module()
class RestorationCodec(LabelCodec):
    """Passes the clean picture through; there is nothing to draw, only to check.

    The annotation is the clean picture (``results['gt_img']``: RGB, uint8, H×W×3), and so is the prediction;
    ``decode(encode(a))`` equals ``a`` exactly. There is no background and no palette: every colour is itself.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import RestorationCodec
        >>> clean = np.full((4, 4, 3), 200, np.uint8)
        >>> bool((RestorationCodec().decode(clean) == clean).all())
        True
    """

    def encode(self, annotation: np.ndarray) -> np.ndarray:
        """Return the clean picture.

        Args:
            annotation: RGB, uint8, H×W×3.

        Returns:
            A copy of it.

        Raises:
            TypeError: if it is not a uint8 array.
            ValueError: if it is not H×W×3.
        """
        return check_picture(annotation, "RestorationCodec.encode").copy()

    def decode(self, picture: np.ndarray) -> np.ndarray:
        """Return the picture that the model wrote.

        Args:
            picture: RGB, uint8, H×W×3.

        Returns:
            A copy of it.

        Raises:
            TypeError: if it is not a uint8 array.
            ValueError: if it is not H×W×3.
        """
        return check_picture(picture, "RestorationCodec.decode").copy()

    def annotation_of(self, results: dict[str, Any]) -> np.ndarray:
        """Return ``results['gt_img']``, H×W×3.

        Raises:
            ValueError: if the field is missing.
        """
        return pick(results, "gt_img", "RestorationCodec")

    def to_fields(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
        """Lay out the two pictures as metrics of restoration read them.

        Args:
            truth: clean picture, uint8, H×W×3.
            prediction: restored picture, uint8, H×W×3, of the same size.

        Returns:
            ``pred_img`` and ``gt_img``, each a dict with ``data``: uint8, H×W×3.

        Raises:
            TypeError: if one of them is not a uint8 array.
            ValueError: if one of them is not H×W×3 or the sizes differ.
        """
        check_picture(truth, "RestorationCodec.to_fields, truth")
        check_picture(prediction, "RestorationCodec.to_fields, prediction")
        if truth.shape != prediction.shape:
            raise ValueError(
                f"RestorationCodec: the truth is {truth.shape}, the prediction {prediction.shape}; "
                "resize both to one size before they are compared"
            )
        return dict(pred_img=dict(data=prediction), gt_img=dict(data=truth))
