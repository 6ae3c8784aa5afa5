"""Answers read at a size that a protocol fixes, whatever size the model draws at."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from delvm_mm.codecs.base import LabelCodec, check_image
from delvm_mm.registry import TASK_UTILS

INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
TRUTHS = ("drawn", "nearest")


@TASK_UTILS.register_module()
class SquashedCodec(LabelCodec):
    """Another codec, whose drawings are squashed to one size before they are read.

    Published protocols score at 111 px (a cell of a grid of 224 px) or 400 px. A model of whole images draws at a size
    of its own; its answer is squashed to ``size``, without regard to the aspect ratio, and the truth is taken there
    from the annotation of the original image, not by way of the model's size. So labels are drawn at the image's own
    size, and :class:`Squash` comes after ``DrawLabel``. ``decode(encode(a))`` equals the truth that :meth:`to_fields`
    lays out for ``a`` exactly with ``truth='drawn'``.

    Args:
        codec: The codec that draws and reads, or its config.
        size: Side in pixels at which answers are read and scored.
        interpolation: 'bicubic' or 'bilinear', both with antialiasing.
        truth: 'drawn' draws the annotation, squashes the drawing and reads it: nothing is ignored then. 'nearest'
            takes the nearest values of an annotation that is a map, H x W, as ``torch.nn.functional.interpolate``
            does; what the codec ignores stays ignored.

    Raises:
        ValueError: An argument is another.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import SquashedCodec
        >>> codec = SquashedCodec(dict(type="ForegroundMaskCodec"), size=8)
        >>> codec.decode(codec.encode(np.tri(32, 64, dtype=np.uint8))).shape
        (8, 8)
    """

    def __init__(
        self, codec: dict | LabelCodec, size: int = 111, interpolation: str = "bicubic", truth: str = "drawn"
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"SquashedCodec: size is {size!r}, expected a whole number of pixels from 1")
        if truth not in TRUTHS:
            raise ValueError(f"SquashedCodec: truth is {truth!r}, expected {' or '.join(map(repr, TRUTHS))}")
        self.codec = TASK_UTILS.build(codec) if isinstance(codec, dict) else codec
        self.size, self.interpolation, self.truth = size, interpolation, truth
        squash(np.zeros((1, 1, 3), np.uint8), 1, interpolation)  # refuses another interpolation
        self.background, self.palette = self.codec.background, self.codec.palette
        self.dataset_meta, self.restores = self.codec.dataset_meta, self.codec.restores
        self.reads_query = self.codec.reads_query

    def encode(self, annotation: Any) -> np.ndarray:
        """Draw an annotation at its own size; see :meth:`LabelCodec.encode`."""
        return self.codec.encode(annotation)

    def decode(self, image: np.ndarray) -> Any:
        """Squash an image and read it.

        Args:
            image: RGB, uint8, H x W x 3, of any size.

        Returns:
            What the codec reads at ``size`` x ``size``.

        Raises:
            TypeError: if the image is not a uint8 array.
            ValueError: if it is not H x W x 3.
        """
        return self.codec.decode(squash(check_image(image, "SquashedCodec.decode"), self.size, self.interpolation))

    def decode_answer(self, answer: Mapping[str, Any]) -> Any:
        """Squash what a model answered and read it; see :meth:`LabelCodec.decode_answer`."""
        if not self.reads_query:
            return super().decode_answer(answer)
        squashed = dict(answer)
        for name in ("pred_image", "query_image", "query_ceiling_image"):
            if answer.get(name) is not None:
                squashed[name] = squash(answer[name], self.size, self.interpolation)
        if answer.get("pred_images") is not None:
            squashed["pred_images"] = np.stack(
                [squash(image, self.size, self.interpolation) for image in answer["pred_images"]]
            )
        return self.codec.decode_answer(squashed)

    def annotation_of(self, results: dict[str, Any]) -> Any:
        """What the codec picks; see :meth:`LabelCodec.annotation_of`."""
        return self.codec.annotation_of(results)

    def to_fields(self, truth: Any, prediction: Any) -> dict[str, Any]:
        """Lay out truth and prediction at ``size``.

        Args:
            truth: What :meth:`annotation_of` gave, of the original image.
            prediction: What :meth:`decode` gave.

        Returns:
            Fields of the codec.

        Raises:
            ValueError: With ``truth='nearest'``, the annotation is no map.
        """
        if self.truth == "drawn":
            return self.codec.to_fields(self.decode(self.codec.encode(truth)), prediction)
        if not isinstance(truth, np.ndarray) or truth.ndim != 2:
            raise ValueError(
                "SquashedCodec: truth='nearest' is for annotations that are a map H x W, not those of "
                f"{type(self.codec).__name__}"
            )
        rows, columns = (np.arange(self.size) * side // self.size for side in truth.shape)
        return self.codec.to_fields(truth[rows[:, None], columns], prediction)


def squash(image: np.ndarray, size: int, interpolation: str) -> np.ndarray:
    """Resize an image to a square, without regard to its aspect ratio.

    Args:
        image: RGB, uint8, H x W x 3.
        size: Side of the square in pixels.
        interpolation: 'bicubic' or 'bilinear', both with antialiasing.

    Returns:
        uint8, size x size x 3.

    Raises:
        ValueError: It is another interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation is {interpolation!r}, expected {' or '.join(map(repr, INTERPOLATIONS))}")
    if image.shape[:2] == (size, size):
        return image
    return np.array(Image.fromarray(image).resize((size, size), INTERPOLATIONS[interpolation]))
