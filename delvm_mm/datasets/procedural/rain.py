"""Rain: streaks of falling drops in three depths, laid over a clean image with a light haze."""

import cv2
import numpy as np

from delvm_mm.datasets.procedural.drawing import SHIFT, fixed_point, multiply, noise_field, noise_grids, soften, uniform


def add_rain(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Lays rain over an image.

    A drop that falls during the exposure is a streak. All streaks of an image share an angle, up to a small spread.
    Far drops are many, short, thin and faint; near drops are few, long, wide and out of focus. Streaks brighten what
    is behind them by screen blending, which leaves a bright sky as it is.

    Args:
        rng: Source of randomness; what is taken from it does not depend on the image or its size.
        image: RGB uint8 H x W x 3; not changed. Where it is no square it is in the middle of one of its longer side,
            which sets the size of the drops.

    Returns:
        RGB uint8 H x W x 3.
    """
    height, width_in_pixels = image.shape[:2]
    size = max(height, width_in_pixels)
    angle = uniform(rng, -0.62, 0.62)
    density, strength = uniform(rng, 0.35, 1.0), uniform(rng, 0.5, 0.9)
    length, width = uniform(rng, 0.07, 0.2), uniform(rng, 0.7, 1.2)
    rain = np.zeros((size, size), dtype=np.uint8)
    for count, stretch, thickness, level, blur in (
        (900, 0.5, 0.0020, 0.40, 0.0),
        (340, 1.0, 0.0030, 0.70, 0.0),
        (36, 1.8, 0.0060, 0.70, 0.0035),
    ):
        layer = np.zeros_like(rain)
        _draw_streaks(
            rng,
            layer,
            count=int(count * density * 0.14 / (0.05 + length)),
            angle=angle,
            length=length * stretch,
            width=thickness * width,
            level=level * strength,
        )
        rain = cv2.add(rain, soften(layer, blur, size))
    # Sheets of rain: the streaks are denser here and thinner there.
    sheets = noise_field(noise_grids(rng, 2, 3), size)
    rain = cv2.multiply(rain, np.clip(sheets.astype(np.int16) // 2 + 64, 70, 190).astype(np.uint8), scale=1.0 / 128)
    top, left = (size - height) // 2, (size - width_in_pixels) // 2
    rain = np.ascontiguousarray(rain[top : top + height, left : left + width_in_pixels])
    haze = uniform(rng, 0.0, 0.16)
    gray = uniform(rng, 150, 205)
    dimmed = cv2.addWeighted(image, 1.0 - haze, np.full_like(image, int(gray)), haze, 0)
    dimmed = multiply(dimmed, np.full(image.shape[:2], int(uniform(rng, 112, 128)), dtype=np.uint8))
    tint = np.stack([cv2.multiply(rain, np.full_like(rain, level), scale=1.0 / 255) for level in (232, 238, 246)], -1)
    return cv2.bitwise_not(cv2.multiply(cv2.bitwise_not(dimmed), cv2.bitwise_not(tint), scale=1.0 / 255))


def _draw_streaks(
    rng: np.random.Generator, layer: np.ndarray, count: int, angle: float, length: float, width: float, level: float
) -> None:
    """Draws ``count`` streaks with faded ends into a uint8 layer; lengths and widths are fractions of the frame."""
    size = layer.shape[0]
    draws = rng.random((count, 5))
    tilt = angle + (draws[:, 2] - 0.5) * 0.07
    half = (0.5 + draws[:, 3])[:, None] * length * np.stack([np.sin(tilt), np.cos(tilt)], axis=-1) / 2
    middle = draws[:, :2] * 1.3 - 0.15
    # A line is at least one pixel wide: a thinner one is drawn fainter instead, so that small images keep the look.
    pixels = width * size
    fade = min(1.0, pixels)
    groups = (draws[:, 4] * 3).astype(np.int64)
    for group in range(3):
        chosen = groups == group
        brightness = level * fade * (0.55 + 0.225 * group) * 255
        for part, gain in ((1.0, 0.5), (0.6, 1.0)):
            ends = np.stack([middle[chosen] - half[chosen] * part, middle[chosen] + half[chosen] * part], axis=1)
            lines = list(fixed_point(ends, size))
            thickness = max(1, int(pixels + 0.5))
            cv2.polylines(layer, lines, False, int(brightness * gain), thickness, cv2.LINE_AA, SHIFT)
