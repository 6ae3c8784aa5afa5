"""Tasks whose annotation is itself an image: deraining, deblurring, denoising."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from delvm_mm.codecs.base import LabelCodec, check_image, pick
from delvm_mm.registry import TASK_UTILS


@TASK_UTILS.register_module()
class RestorationCodec(LabelCodec):
    """Passes the clean image through; there is nothing to draw, only to check.

    The annotation is the clean image (``results['gt_img']``: RGB, uint8, H x W x 3), and so is the prediction;
    ``decode(encode(a))`` equals ``a`` exactly. There is no background and no palette: every color is itself.

    A tokenizer loses detail that the query has: thin lines, texture. ``detail`` gives it back, ``answer + detail *
    (query - query through the tokenizer)``: where the answer is the query's own tokens, it becomes the query itself.
    Whatever of the fault the tokenizer had lost too, noise and thin rain, comes back as well, so that ``detail`` is to
    be chosen for each task, on images of its training.

    Args:
        detail: Part of the lost detail, from 0, none, to 1, all.

    Raises:
        ValueError: ``detail`` is not from 0 to 1.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import RestorationCodec
        >>> clean = np.full((4, 4, 3), 200, np.uint8)
        >>> bool((RestorationCodec().decode(clean) == clean).all())
        True
    """

    restores = True

    def __init__(self, detail: float = 0.0) -> None:
        if isinstance(detail, bool) or not isinstance(detail, int | float) or not 0 <= detail <= 1:
            raise ValueError(f"RestorationCodec.detail is {detail!r}, expected a number from 0 to 1")
        self.detail = float(detail)
        self.reads_query = detail > 0

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

    def decode_answer(self, answer: Mapping[str, Any]) -> np.ndarray:
        """Return the image that a model wrote, with ``detail`` of what the tokenizer lost of the query.

        Args:
            answer: As of :meth:`LabelCodec.decode_answer`; with ``detail`` also ``query_image`` and
                ``query_ceiling_image``, the query and the query after tokenizer and back: uint8, H x W x 3.

        Returns:
            uint8, H x W x 3.

        Raises:
            ValueError: ``detail`` is on and one of the two images is missing or of another size.
        """
        restored = super().decode_answer(answer)
        if not self.detail:
            return restored
        query, tokenized = (answer.get(name) for name in ("query_image", "query_ceiling_image"))
        shapes = [None if image is None else np.shape(image) for image in (query, tokenized)]
        if shapes != [restored.shape] * 2:
            raise ValueError(
                f"RestorationCodec.detail is {self.detail:g}, which needs query_image and query_ceiling_image of the "
                f"answer's shape {restored.shape}, got {shapes[0]} and {shapes[1]}: let DeLVM.predict answer samples "
                "that have a label_image, or set detail=0"
            )
        lost = np.asarray(query, np.float32) - np.asarray(tokenized, np.float32)
        return np.rint(np.clip(restored + self.detail * lost, 0, 255)).astype(np.uint8)

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
