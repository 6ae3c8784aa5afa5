"""What every label codec has: an annotation drawn as a picture, and the picture read back."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class LabelCodec(ABC):
    """Draws one kind of annotation as an RGB picture and reads such a picture back.

    Training data and prompts use :meth:`encode`; evaluation uses :meth:`decode` on pictures that a model wrote, so
    ``decode`` has to bear blur and colour drift. ``decode(encode(a))`` is ``a`` within a tolerance that the codec's
    docstring states. Codecs know numpy pictures, not tensors, and never look at the truth while decoding.

    Attributes:
        background: RGB of a pixel where nothing is annotated, each in 0..255.
        palette: RGB colours and what they stand for: a sequence of colours in the order of the codec's classes.
        dataset_meta: what the toolbox metrics want to know about the data set (class names, keypoint sigmas, ...).
    """

    background: tuple[int, int, int] = (0, 0, 0)
    palette: tuple[tuple[int, int, int], ...] = ()
    dataset_meta: dict[str, Any] = {}  # noqa: RUF012 - every subclass sets its own

    @abstractmethod
    def encode(self, annotation: Any) -> np.ndarray:
        """Draw an annotation.

        Args:
            annotation: the annotation, in the form that the codec's class names.

        Returns:
            RGB picture, uint8, H×W×3.
        """

    @abstractmethod
    def decode(self, picture: np.ndarray) -> Any:
        """Read an annotation from a picture.

        Args:
            picture: RGB picture, uint8, H×W×3, drawn by :meth:`encode` or written by a model.

        Returns:
            The prediction, in the form of the annotation.
        """

    @abstractmethod
    def annotation_of(self, results: dict[str, Any]) -> Any:
        """Pick the annotation out of an OpenMMLab results dict.

        Args:
            results: the dict that passes through a data pipeline.

        Returns:
            The annotation, in the form that :meth:`encode` takes.

        Raises:
            ValueError: if a field that the codec needs is not in ``results``.
        """

    @abstractmethod
    def to_fields(self, truth: Any, prediction: Any) -> dict[str, Any]:
        """Lay out truth and prediction as the toolbox metrics read them.

        Args:
            truth: what :meth:`annotation_of` gave.
            prediction: what :meth:`decode` gave.

        Returns:
            Fields of one data sample, values in numpy.
        """


def check_picture(picture: np.ndarray, owner: str) -> np.ndarray:
    """Check that ``picture`` is an RGB picture as the codecs pass them around.

    Args:
        picture: expected uint8, H×W×3.
        owner: name of the codec, for the message.

    Returns:
        The same array.

    Raises:
        TypeError: if it is not a uint8 numpy array.
        ValueError: if it is not H×W×3 or is empty.
    """
    if not isinstance(picture, np.ndarray):
        raise TypeError(f"{owner}: got a {type(picture).__name__}, expected an RGB picture as a numpy array, H×W×3")
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(f"{owner}: got shape {picture.shape}, expected an RGB picture H×W×3 (convert grey or RGBA)")
    if picture.dtype != np.uint8:
        raise TypeError(f"{owner}: got dtype {picture.dtype}, expected uint8 RGB in 0..255 (scale and round floats)")
    return picture


def check_color(color: Any, name: str) -> tuple[int, int, int]:
    """Check an RGB colour of three integers in 0..255 and return it as a tuple.

    Raises:
        ValueError: if it is anything else.
    """
    values = np.asarray(color)
    if values.shape != (3,) or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise ValueError(f"{name} is {color!r}, expected three integers in 0..255 (RGB)")
    return tuple(int(value) for value in values)


def pick(results: dict[str, Any], key: str, owner: str) -> Any:
    """Return ``results[key]``, with an error that names what was there instead.

    Raises:
        ValueError: if the key is missing.
    """
    if key not in results:
        raise ValueError(f"{owner} needs '{key}' in the results dict, which has {sorted(results)}: load it before")
    return results[key]
