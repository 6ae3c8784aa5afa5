"""What every part of a procedural scene is drawn with: random numbers, colors, fixed-point polygons, shading.

Positions are normalized: the frame is [0, 1] x [0, 1], x to the right, y down. Pixel ``i`` of an image with ``size``
pixels a side is centered on ``(i + 0.5) / size``, so a scene has one geometry at every size.

Two rules keep sample ``i`` the same image on every machine. Random numbers come from ``Generator.random`` alone,
whose stream NumPy does not change between versions (``choice`` or ``normal`` may change). And polygons reach OpenCV
as integers with ``SHIFT`` fractional bits, so that rounding happens here and not in its build.
"""

import colorsys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

SHIFT = 4


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """One number, uniform in [low, high)."""
    return low + (high - low) * rng.random()


def integer(rng: np.random.Generator, low: int, high: int) -> int:
    """One whole number, uniform in low..high, both included."""
    return low + int(rng.random() * (high - low + 1))


def pick(rng: np.random.Generator, options: Sequence[Any], weights: Sequence[float] | None = None) -> Any:
    """One of ``options``, each as likely as its weight (all alike without weights)."""
    if weights is None:
        return options[int(rng.random() * len(options))]
    edges = np.cumsum(weights)
    return options[min(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")), len(options) - 1)]


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB color, float64 of shape (3,) in [0, 255], of a hue (taken modulo 1), saturation and value in [0, 1]."""
    return 255.0 * np.array(colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0), 1), min(max(value, 0), 1)))


def shade(color: Sequence[float], gain: float) -> tuple[int, int, int]:
    """The color times ``gain``, rounded and clipped, as the integers that OpenCV's drawing functions take."""
    red, green, blue = (int(min(max(float(channel) * gain + 0.5, 0), 255)) for channel in color)
    return red, green, blue


def fixed_point(points: np.ndarray, size: int) -> np.ndarray:
    """Normalized points N x 2 as OpenCV's int32 pixel coordinates with ``SHIFT`` fractional bits."""
    pixels = np.asarray(points, dtype=np.float64) * size - 0.5
    return np.floor(pixels * (1 << SHIFT) + 0.5).astype(np.int32)


def fill(image: np.ndarray, points: np.ndarray, color: Any) -> None:
    """Fills a polygon given by normalized points N x 2, in place and antialiased."""
    cv2.fillPoly(image, [fixed_point(points, image.shape[0])], color, cv2.LINE_AA, SHIFT)


def stroke(image: np.ndarray, points: np.ndarray, color: Any, width: float, closed: bool = False) -> None:
    """Draws a line through normalized points N x 2, in place; ``width`` is a fraction of the frame."""
    thickness = max(1, int(width * image.shape[0] + 0.5))
    cv2.polylines(image, [fixed_point(points, image.shape[0])], closed, color, thickness, cv2.LINE_AA, SHIFT)


def soften(image: np.ndarray, radius: float, size: int) -> np.ndarray:
    """Blurs with two box filters, close to a Gaussian, of ``radius`` times ``size`` pixels."""
    width = 2 * int(radius * size + 0.5) + 1
    if width < 3:
        return image
    return cv2.blur(cv2.blur(image, (width, width)), (width, width))


def multiply(image: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Multiplies RGB uint8 H x W x 3 by ``gain``, uint8 H x W, where 128 means one."""
    return cv2.multiply(image, cv2.cvtColor(gain, cv2.COLOR_GRAY2RGB), scale=1.0 / 128)


def blend(under: np.ndarray, over: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lays ``over`` on ``under``, both uint8 H x W x 3, where ``alpha``, uint8 H x W, says so (255 = all of it)."""
    weight = cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
    return cv2.add(
        cv2.multiply(under, cv2.bitwise_not(weight), scale=1.0 / 255), cv2.multiply(over, weight, scale=1.0 / 255)
    )


def noise_grids(rng: np.random.Generator, coarsest: int, octaves: int) -> list[np.ndarray]:
    """Random grids for :func:`noise_field`: float32 in [0, 1), sides ``coarsest``, twice that, four times that, ..."""
    sides = [coarsest << octave for octave in range(octaves)]
    return [rng.random((side, side)).astype(np.float32) for side in sides]


def noise_field(grids: Sequence[np.ndarray], size: int, persistence: float = 0.55) -> np.ndarray:
    """Sums grids, each enlarged to the frame, into a multi-scale field.

    Args:
        grids: From :func:`noise_grids`, coarsest first.
        size: Side of the field in pixels.
        persistence: Weight of a grid relative to the next coarser one.

    Returns:
        uint8 array, size x size, around 128.
    """
    field = np.zeros((size, size), dtype=np.float32)
    weight, total = 1.0, 0.0
    for grid in grids:
        area = grid.shape[0] > size
        layer = cv2.resize(grid, (size, size), interpolation=cv2.INTER_AREA if area else cv2.INTER_CUBIC)
        cv2.scaleAdd(layer - np.float32(0.5), weight, field, field)
        total += weight**2
        weight *= persistence
    return np.clip(128.5 + field * (300.0 / total**0.5), 0, 255).astype(np.uint8)


def palette_lookup(colors: Sequence[np.ndarray]) -> np.ndarray:
    """Colors spread evenly over 0..255 as a lookup table, uint8 256 x 3, for a one-channel image."""
    stops = np.linspace(0, 255, len(colors))
    levels = np.arange(256)
    channels = [np.interp(levels, stops, [color[channel] for color in colors]) for channel in range(3)]
    return np.clip(np.stack(channels, axis=-1) + 0.5, 0, 255).astype(np.uint8)
