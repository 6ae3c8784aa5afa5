"""What every label codec has: an annotation drawn as an image, and the image read back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

META_KEYS = ("task", "img_path", "name", "img_id", "id", "class_id", "class_name", "fold")
"""Fields of a results dict that say whose annotation it is; they go with it to the metrics."""


class LabelCodec(ABC):
    """Draws one kind of annotation as an RGB image and reads such an image back.

    Training data and prompts use :meth:`encode`; evaluation uses :meth:`decode` on images that a model wrote, so
    ``decode`` has to bear blur and color drift. ``decode(encode(a))`` is ``a`` within a tolerance that the codec's
    docstring states. Codecs know numpy images, not tensors, and never look at the truth while decoding.

    Attributes:
        background: RGB of a pixel where nothing is annotated, each in 0..255.
        palette: RGB colors and what they stand for: a sequence of colors in the order of the codec's classes.
        dataset_meta: what the toolbox metrics want to know about the data set (class names, keypoint sigmas, ...).
        restores: whether the query itself is already an answer, which the task is to improve.
        reads_query: whether :meth:`decode_answer` reads ``query_image`` and ``query_ceiling_image`` too.
    """

    background: tuple[int, int, int] = (0, 0, 0)
    palette: tuple[tuple[int, int, int], ...] = ()
    dataset_meta: dict[str, Any] = {}  # every subclass sets its own
    restores: bool = False
    reads_query: bool = False

    @abstractmethod
    def encode(self, annotation: Any) -> np.ndarray:
        """Draw an annotation.

        Args:
            annotation: the annotation, in the form that the codec's class names.

        Returns:
            RGB image, uint8, H x W x 3.
        """

    @abstractmethod
    def decode(self, image: np.ndarray) -> Any:
        """Read an annotation from an image.

        Args:
            image: RGB image, uint8, H x W x 3, drawn by :meth:`encode` or written by a model.

        Returns:
            The prediction, in the form of the annotation.
        """

    def decode_mean(self, images: np.ndarray) -> Any:
        """Read the mean of several label images, an answer that knows the prompt's labels and not the query.

        Args:
            images: RGB label images, uint8, N x H x W x 3, N at least 1.

        Returns:
            What :meth:`decode` gives for the mean image; of a mask that is a threshold of the mean mask.
        """
        return self.decode(np.rint(np.mean(images, axis=0)).astype(np.uint8))

    def decode_vote(self, images: np.ndarray) -> Any:
        """Read several answers to one query, and take what most of them say, pixel by pixel.

        Args:
            images: RGB, uint8, N x H x W x 3, N at least 1.

        Returns:
            In the form of :meth:`decode`; where two values have as many votes, the smaller one.

        Raises:
            ValueError: if the codec does not read a map of classes, of which there is a majority.
        """
        read = [self.decode(np.ascontiguousarray(image)) for image in images]
        if not isinstance(read[0], np.ndarray) or read[0].ndim != 2 or read[0].dtype.kind not in "bui":
            raise ValueError(
                f"{type(self).__name__} reads no map of classes, so answers have no majority: combine them by "
                "'distributions' or 'mean'"
            )
        values = np.unique(read)
        votes = np.stack([(np.stack(read) == value).sum(0) for value in values])
        return values[votes.argmax(0)].astype(read[0].dtype)

    def decode_answer(self, answer: Mapping[str, Any]) -> Any:
        """Read what a model answered: one image, or one for each prompt of an ensemble.

        Args:
            answer: ``pred_image``, and of several answers ``pred_images`` (uint8, N x H x W x 3) and ``combine``:
                'mean' (:meth:`decode_mean`) or 'vote' (:meth:`decode_vote`). A codec may read other fields of the
                data sample, such as ``query_image``.

        Returns:
            As :meth:`decode`.
        """
        if answer.get("pred_images") is None:
            return self.decode(answer["pred_image"])
        decode = self.decode_vote if answer["combine"] == "vote" else self.decode_mean
        return decode(answer["pred_images"])

    def image_of(self, answer: Mapping[str, Any], prediction: Any = None) -> np.ndarray:
        """The image of an answer, to be looked at: the one that a model wrote, or what was read of several, drawn.

        Args:
            answer: As for :meth:`decode_answer`.
            prediction: What :meth:`decode_answer` gave for it; read if it is wanted and not given.

        Returns:
            uint8, H x W x 3.
        """
        if answer.get("pred_images") is None and not self.reads_query:
            return answer["pred_image"]
        drawn = self.encode(self.decode_answer(answer) if prediction is None else prediction)
        return drawn if drawn.shape == answer["pred_image"].shape else answer["pred_image"]

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


def check_image(image: np.ndarray, owner: str) -> np.ndarray:
    """Check that ``image`` is an RGB image as the codecs pass them around.

    Args:
        image: expected uint8, H x W x 3.
        owner: name of the codec, for the message.

    Returns:
        The same array.

    Raises:
        TypeError: if it is not a uint8 numpy array.
        ValueError: if it is not H x W x 3 or is empty.
    """
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{owner}: got a {type(image).__name__}, expected an RGB image as a numpy array, H x W x 3")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"{owner}: got shape {image.shape}, expected an RGB image H x W x 3 (convert gray or RGBA)")
    if image.dtype != np.uint8:
        raise TypeError(f"{owner}: got dtype {image.dtype}, expected uint8 RGB in 0..255 (scale and round floats)")
    return image


def check_color(color: Any, name: str) -> tuple[int, int, int]:
    """Check an RGB color of three integers in 0..255 and return it as a tuple.

    Returns:
        Red, green and blue.

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
