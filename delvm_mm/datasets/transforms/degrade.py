"""Training pairs of one's own clean images: rain, noise, blur, darkness, holes, gray and edges, of any size.

Each transform leaves the input in ``img`` and what the model should make of it in ``gt_img``, which
``DrawLabel(codec=dict(type='RestorationCodec'))`` takes as the label. Where ``gt_img`` is there already it stays, so
that degradations can follow each other. What is random comes from numpy's global generator alone, as in ``augment.py``:
bulk tokenization seeds it for each clip. Strengths are in pixels and gray levels of the image as it is then: put them
after the resizing.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from delvm_mm.datasets.procedural.rain import add_rain
from delvm_mm.datasets.transforms.base import BaseTransform
from delvm_mm.datasets.transforms.formatting import sample_name
from delvm_mm.registry import TRANSFORMS

__all__ = ["AddBlur", "AddDarkness", "AddNoise", "AddRain", "CannyEdges", "MaskOut", "ToGray"]


class _Degradation(BaseTransform):
    """Keeps the clean image in ``gt_img`` and puts ``degrade(img)`` in its place."""

    def transform(self, results: dict) -> dict:
        """Degrade ``img``; ``gt_img`` is the image before the first degradation."""
        image = _image_of(results, type(self).__name__)
        if results.get("gt_img") is None:
            results["gt_img"] = image.copy()
        results["img"] = self.degrade(image)
        return results

    def degrade(self, image: np.ndarray) -> np.ndarray:
        """Degrade an image, RGB uint8 H x W x 3, that is not changed."""
        raise NotImplementedError


@TRANSFORMS.register_module()
class AddRain(_Degradation):
    """Lay the drawn rain of ``ProceduralScenes`` over the image: streaks in three depths and a light haze."""

    def degrade(self, image: np.ndarray) -> np.ndarray:
        """The image in rain."""
        return add_rain(np.random.Generator(np.random.PCG64(np.random.randint(2**32, size=4, dtype=np.uint64))), image)


@TRANSFORMS.register_module()
class AddNoise(_Degradation):
    """Add Gaussian noise, drawn for each pixel and channel, rounded and clipped to 0 to 255.

    Args:
        std: Standard deviation in gray levels, or (smallest, largest), drawn for each image.
    """

    def __init__(self, std: float | tuple[float, float] = (10, 50)) -> None:
        self.std = _limits(std, "AddNoise", "std", 0, 255)

    def degrade(self, image: np.ndarray) -> np.ndarray:
        """The noisy image."""
        noise = np.random.standard_normal(image.shape).astype(np.float32) * np.random.uniform(*self.std)
        return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@TRANSFORMS.register_module()
class AddBlur(_Degradation):
    """Blur as out of focus (Gaussian) or in motion (a line of equal weights); the border is mirrored.

    Args:
        sigma: Standard deviation of the Gaussian in pixels, or (smallest, largest), drawn for each image.
        length: Length of the line in pixels, or (shortest, longest), drawn for each image; its direction is drawn too.
        kinds: 'gaussian', 'motion', or both, of which one is drawn for each image.
    """

    KINDS = ("gaussian", "motion")

    def __init__(
        self,
        sigma: float | tuple[float, float] = (1.0, 2.5),
        length: float | tuple[float, float] = (4, 12),
        kinds: str | Sequence[str] = KINDS,
    ) -> None:
        self.sigma = _limits(sigma, "AddBlur", "sigma", 0.01, 1000)
        self.length = _limits(length, "AddBlur", "length", 1, 1000)
        self.kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        if not self.kinds or not set(self.kinds) <= set(self.KINDS):
            raise ValueError(f"AddBlur: kinds is {kinds!r}, expected some of {self.KINDS}")

    def degrade(self, image: np.ndarray) -> np.ndarray:
        """The blurred image."""
        if self.kinds[np.random.randint(len(self.kinds))] == "gaussian":
            return cv2.GaussianBlur(image, (0, 0), np.random.uniform(*self.sigma), borderType=cv2.BORDER_REFLECT_101)
        length, angle = np.random.uniform(*self.length), np.random.uniform(0, np.pi)
        return cv2.filter2D(image, -1, motion_kernel(length, angle), borderType=cv2.BORDER_REFLECT_101)


@TRANSFORMS.register_module()
class AddDarkness(_Degradation):
    """Take light away, as a short exposure at night does, with the noise of the few photons that are left.

    Gray levels become light (a power of 2.2), of which ``exposure`` is left; shot noise and read noise are added, drawn
    for each pixel and channel, and light becomes gray levels again.

    Args:
        exposure: Part of the light that is left, or (smallest, largest), drawn for each image on a logarithmic scale.
        photons: Photons that white has before, or (smallest, largest), drawn for each image: the fewer, the noisier.
        read_noise: Standard deviation of the sensor's own noise, in photons.
    """

    GAMMA = 2.2

    def __init__(
        self,
        exposure: float | tuple[float, float] = (0.03, 0.2),
        photons: float | tuple[float, float] = (2000, 10000),
        read_noise: float = 2.0,
    ) -> None:
        self.exposure = _limits(exposure, "AddDarkness", "exposure", 0.001, 1)
        self.photons = _limits(photons, "AddDarkness", "photons", 1, 1e9)
        self.read_noise, _ = _limits(read_noise, "AddDarkness", "read_noise", 0, 1e6)

    def degrade(self, image: np.ndarray) -> np.ndarray:
        """The dark image."""
        exposure = np.exp(np.random.uniform(*np.log(self.exposure)))
        photons = np.random.uniform(*self.photons)
        left = (image / 255.0) ** self.GAMMA * exposure * photons
        # Poisson's, by the normal distribution of the same deviation.
        deviation = np.sqrt(left + self.read_noise**2)
        counted = left + deviation * np.random.standard_normal(image.shape)
        return np.rint(np.clip(counted / photons, 0, 1) ** (1 / self.GAMMA) * 255).astype(np.uint8)


@TRANSFORMS.register_module()
class MaskOut(_Degradation):
    """Fill random boxes and strokes with one color, for inpainting; at least ``part`` of the image is covered.

    Args:
        part: Part of the image to cover, or (smallest, largest), drawn for each image. The last shape may go beyond.
        fill: RGB of the holes.
        stroke_prob: Probability that a shape is a stroke, a broken line of round ends, and not a box.
    """

    def __init__(
        self,
        part: float | tuple[float, float] = (0.1, 0.35),
        fill: tuple[int, int, int] = (128, 128, 128),
        stroke_prob: float = 0.5,
    ) -> None:
        self.part = _limits(part, "MaskOut", "part", 0, 0.95)
        if len(fill) != 3 or not all(isinstance(level, int) and 0 <= level <= 255 for level in fill):
            raise ValueError(f"MaskOut: fill is {fill!r}, expected RGB, three whole numbers from 0 to 255")
        if not 0 <= stroke_prob <= 1:
            raise ValueError(f"MaskOut: stroke_prob is {stroke_prob}, expected a probability in [0, 1]")
        self.fill = tuple(fill)
        self.stroke_prob = stroke_prob

    def degrade(self, image: np.ndarray) -> np.ndarray:
        """The image with holes."""
        wanted = np.random.uniform(*self.part) * image.shape[0] * image.shape[1]
        holes = np.zeros(image.shape[:2], np.uint8)
        while np.count_nonzero(holes) < wanted:
            (_draw_stroke if np.random.random() < self.stroke_prob else _draw_box)(holes)
        return np.where(holes[..., None] > 0, np.array(self.fill, np.uint8), image)


@TRANSFORMS.register_module()
class ToGray(_Degradation):
    """Take the color away (OpenCV's luma, three equal channels), for colorization. Nothing is random."""

    def degrade(self, image: np.ndarray) -> np.ndarray:
        """The gray image."""
        return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


@TRANSFORMS.register_module()
class CannyEdges(BaseTransform):
    """Put the edges into ``gt_img``, white on black; ``img`` stays. Nothing is random.

    Edges are Canny's (OpenCV) of the gray image after a Gaussian blur. Where there is a ``gt_img`` they are its, so
    that a degradation before draws no edges of its own.

    Args:
        sigma: Standard deviation of the blur in pixels; 0 for none.
        low: Lower threshold of the gradient.
        high: Upper threshold of the gradient.
        thickness: Side in pixels of the square that each pixel of an edge becomes.
    """

    def __init__(self, sigma: float = 1.0, low: float = 60, high: float = 150, thickness: int = 1) -> None:
        if sigma < 0:
            raise ValueError(f"CannyEdges: sigma is {sigma}, expected pixels, 0 or more")
        if not 0 <= low <= high:
            raise ValueError(f"CannyEdges: low and high are {low} and {high}, expected 0 <= low <= high")
        if not isinstance(thickness, int) or thickness < 1:
            raise ValueError(f"CannyEdges: thickness is {thickness!r}, expected a whole number of pixels from 1")
        self.sigma, self.low, self.high, self.thickness = sigma, low, high, thickness

    def transform(self, results: dict) -> dict:
        """Add the edges."""
        image = _image_of(results, "CannyEdges")
        gray = cv2.cvtColor(image if results.get("gt_img") is None else results["gt_img"], cv2.COLOR_RGB2GRAY)
        if self.sigma:
            gray = cv2.GaussianBlur(gray, (0, 0), self.sigma)
        edges = cv2.Canny(gray, self.low, self.high, L2gradient=True)
        if self.thickness > 1:
            edges = cv2.dilate(edges, np.ones((self.thickness, self.thickness), np.uint8))
        results["gt_img"] = np.repeat(edges[..., None], 3, axis=2)
        return results


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """A line of equal weights through the center of a square of odd side, smooth at its edges.

    Args:
        length: In pixels, at least 1.
        angle: In radians; 0 is horizontal, and positive angles turn from x to y, downwards.

    Returns:
        float32 n x n that sums to 1.
    """
    half = (length - 1) / 2
    radius = int(np.ceil(half)) + 1
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    distance = np.hypot(np.maximum(np.abs(along) - half, 0), across)
    kernel = np.clip(1 - distance, 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def _draw_box(holes: np.ndarray) -> None:
    height, width = holes.shape
    rows, columns = (max(1, round(side * np.random.uniform(0.1, 0.4))) for side in (height, width))
    top, left = np.random.randint(height - rows + 1), np.random.randint(width - columns + 1)
    holes[top : top + rows, left : left + columns] = 255


def _draw_stroke(holes: np.ndarray) -> None:
    side = min(holes.shape)
    point = np.random.uniform(0, 1, 2) * holes.shape[::-1]
    angle = np.random.uniform(0, 2 * np.pi)
    thickness = max(1, round(side * np.random.uniform(0.04, 0.12)))
    points = [point]
    for _ in range(np.random.randint(2, 6)):
        angle += np.random.uniform(-1, 1)
        point = point + side * np.random.uniform(0.1, 0.3) * np.array([np.cos(angle), np.sin(angle)])
        points.append(point)
    cv2.polylines(holes, [np.rint(points).astype(np.int32)], False, 255, thickness)


def _image_of(results: dict, owner: str) -> np.ndarray:
    image = results.get("img")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(
            f"{owner} needs 'img' of {sample_name(results)} as RGB uint8 H x W x 3, it is {given}: load it first, for "
            "example with LoadImage"
        )
    return image


def _limits(
    value: float | tuple[float, float], owner: str, name: str, smallest: float, largest: float
) -> tuple[float, float]:
    low, high = value if isinstance(value, tuple | list) and len(value) == 2 else (value, value)
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in (low, high)) or not (
        smallest <= low <= high <= largest
    ):
        raise ValueError(
            f"{owner}: {name} is {value!r}, expected a number or (smallest, largest) from {smallest} to {largest}"
        )
    return float(low), float(high)
