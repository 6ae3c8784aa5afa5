"""Backgrounds of procedural scenes: photographs, surfaces, textures and rooms.

The photographs are those that scikit-image carries inside its package, so nothing is downloaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from delvm_mm.datasets.procedural.drawing import (
    hsv,
    integer,
    multiply,
    noise_field,
    noise_grids,
    palette_lookup,
    pick,
    soften,
    uniform,
)

SURFACES = ("brick.png", "grass.png", "gravel.png")
PHOTOS = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "moon.png")
# Too much like the objects and people that are drawn: only for scenes without an annotation of those.
PHOTOS_WITH_SUBJECTS = ("astronaut.png", "camera.png", "coins.png")

Render = Callable[[int], np.ndarray]
"""Draws one planned background at a side in pixels: uint8 size x size x 3."""


@dataclass(frozen=True)
class Background:
    """A planned background.

    Attributes:
        kind: 'surface', 'noise', 'gradient', 'room', 'blurred' (a defocused photograph) or 'photo'.
        render: Function from the side in pixels to RGB uint8 size x size x 3.
    """

    kind: str
    render: Render


@cache
def bundled_photo(name: str) -> np.ndarray:
    """Reads a photograph from inside the scikit-image package.

    Args:
        name: File name, one of ``SURFACES``, ``PHOTOS`` or ``PHOTOS_WITH_SUBJECTS``.

    Returns:
        RGB uint8 H x W x 3, at most 512 pixels on the short side; gray images have three equal channels.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
        FileNotFoundError: this scikit-image does not carry the file.
    """
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "procedural scenes take their photographs from scikit-image, which is not installed; "
            "run `pip install scikit-image`"
        )
    path = Path(spec.origin).parent / "data" / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; procedural scenes expect a scikit-image that bundles it "
            "(0.20 or newer does); run `pip install --force-reinstall scikit-image`"
        )
    with Image.open(path) as file:
        image = np.array(file.convert("RGB"))
    scale = 512 / min(image.shape[:2])
    if scale < 1:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    image.setflags(write=False)
    return image


def plan_background(rng: np.random.Generator, style: str) -> Background:
    """Chooses a background, to be drawn at any size.

    Args:
        rng: Source of randomness; how much is taken from it does not depend on the size drawn later.
        style: 'objects' (nothing sharp that could be taken for an object: surfaces, textures, defocused photographs),
            'person' (rooms, photographs without people, textures) or 'photo' (mostly sharp photographs).

    Returns:
        The background.
    """
    kinds, weights = {
        "objects": (("surface", "noise", "gradient", "room", "blurred"), (3, 3, 2, 2, 3)),
        "person": (("surface", "noise", "gradient", "room", "blurred", "photo"), (1, 1, 1, 5, 3, 1)),
        "photo": (("photo", "room", "blurred", "surface", "noise"), (7, 2, 1, 1, 1)),
    }[style]
    kind = pick(rng, kinds, weights)
    if kind == "surface":
        render = _surface(rng)
    elif kind == "noise":
        render = _noise(rng)
    elif kind == "gradient":
        render = _gradient(rng)
    elif kind == "room":
        render = _room(rng)
    else:
        names = PHOTOS + PHOTOS_WITH_SUBJECTS if style == "photo" else PHOTOS
        blur = {"objects": (0.025, 0.05)}.get(style, (0.012, 0.03))
        render = _photo(rng, names, uniform(rng, *blur) if kind == "blurred" else 0.0)
    return Background(kind, _lit(rng, render))


def _photo(rng: np.random.Generator, names: tuple[str, ...], blur: float) -> Render:
    """A square crop of a photograph with a random flip, colors and, for ``blur`` > 0, defocus."""
    photo = bundled_photo(pick(rng, names))
    height, width = photo.shape[:2]
    side = int(min(height, width) * uniform(rng, 0.55, 1.0))
    top, left = integer(rng, 0, height - side), integer(rng, 0, width - side)
    crop = photo[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    recolor = _color_jitter(rng, tint=0.12 if _is_colored(photo) else 0.15)

    def render(size: int) -> np.ndarray:
        shrink = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        return soften(recolor(cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=shrink)), blur, size)

    return render


def _surface(rng: np.random.Generator, flatten: float = 1.0) -> Render:
    """A surface in a random color; with ``flatten`` < 1 grass or gravel, squeezed as a floor seen at an angle."""
    photo = bundled_photo(pick(rng, SURFACES if flatten == 1.0 else SURFACES[1:]))[:, :, 0]
    side = int(min(photo.shape) * uniform(rng, 0.4, 0.95))
    height = int(side * flatten)
    top, left = integer(rng, 0, photo.shape[0] - side), integer(rng, 0, photo.shape[1] - side)
    crop = np.ascontiguousarray(photo[top : top + side, left : left + side])
    # A crop is squeezed by repeating it: the same stones, smaller in height.
    crop = np.concatenate([crop, crop[::-1]]) if height < side else crop
    hue, saturation, value = rng.random(), uniform(rng, 0.05, 0.5), uniform(rng, 0.75, 1.0)
    table = palette_lookup(
        [hsv(hue, saturation, 0.12 * value), hsv(hue + 0.03, saturation, 0.6 * value), hsv(hue + 0.08, 0.2, value)]
    )

    def render(size: int) -> np.ndarray:
        shrink = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        return table[cv2.resize(crop, (size, size), interpolation=shrink)]

    return render


def _noise(rng: np.random.Generator) -> Render:
    """A multi-scale cloud, stone or cloth texture in a few related colors."""
    table = palette_lookup(_related_colors(rng))
    octaves = integer(rng, 4, 6)
    grids = noise_grids(rng, integer(rng, 2, 5), octaves)
    persistence = uniform(rng, 0.4, 0.8)
    return lambda size: table[noise_field(grids, size, persistence)]


def _gradient(rng: np.random.Generator) -> Render:
    """A linear or radial change between related colors with a little grain."""
    table = palette_lookup(_related_colors(rng))
    angle, radial, center = uniform(rng, 0, 6.283), rng.random() < 0.4, rng.random(2)
    grids = noise_grids(rng, 16, 4)

    def render(size: int) -> np.ndarray:
        axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
        if radial:
            level = np.sqrt((axis[None, :] - center[0]) ** 2 + (axis[:, None] - center[1]) ** 2) / 1.2
        else:
            across, down = np.cos(angle), np.sin(angle)
            level = ((axis[None, :] - 0.5) * across + (axis[:, None] - 0.5) * down) / (abs(across) + abs(down)) + 0.5
        grain = noise_field(grids, size, 0.9).astype(np.float32) - 128
        return table[np.clip(level * 255 + grain * 0.12, 0, 255).astype(np.uint8)]

    return render


def _room(rng: np.random.Generator) -> Render:
    """A wall above a floor, or land below a sky: the line between them, and a floor that recedes."""
    wall = pick(rng, (_surface, _noise, _gradient, _gradient))(rng)
    floor = _surface(rng, 0.5) if rng.random() < 0.6 else _noise(rng)
    horizon = uniform(rng, 0.5, 0.8)
    edge, edge_level = uniform(rng, 0.0, 0.02), pick(rng, (0.5, 0.75, 1.3))

    def render(size: int) -> np.ndarray:
        row = int(horizon * size + 0.5)
        image = wall(size)
        ground = cv2.resize(floor(size), (size, size - row), interpolation=cv2.INTER_AREA)
        falloff = np.interp(np.arange(size - row), [0, (size - row) * 0.6], [80, 132]).astype(np.uint8)
        image[row:] = multiply(ground, np.repeat(falloff[:, None], size, axis=1))
        thick = int(edge * size)
        if thick:
            strip = image[row - thick : row].astype(np.float32) * edge_level
            image[row - thick : row] = np.clip(strip, 0, 255).astype(np.uint8)
        return image

    return render


def _lit(rng: np.random.Generator, render: Render) -> Render:
    """The same background under uneven light: brighter at one side than at another."""
    corners = np.array([[uniform(rng, 88, 150) for _ in range(3)] for _ in range(3)], dtype=np.float32)

    def lit(size: int) -> np.ndarray:
        light = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
        return multiply(render(size), np.clip(light + 0.5, 0, 255).astype(np.uint8))

    return lit


def _is_colored(photo: np.ndarray) -> bool:
    return bool((photo[..., 0] != photo[..., 2]).any())


def _related_colors(rng: np.random.Generator) -> list[np.ndarray]:
    """Three colors of neighboring hue, dark to light."""
    hue, spread, saturation = rng.random(), uniform(rng, -0.12, 0.12), uniform(rng, 0.08, 0.6)
    dark = uniform(rng, 0.15, 0.5)
    values = (dark, dark + uniform(rng, 0.1, 0.25), dark + uniform(rng, 0.25, 0.5))
    return [hsv(hue + spread * step, saturation * (1 - 0.25 * step), value) for step, value in enumerate(values)]


def _color_jitter(rng: np.random.Generator, tint: float) -> Callable[[np.ndarray], np.ndarray]:
    """A random change of brightness, contrast and color as one lookup table for each channel."""
    gamma, gain = uniform(rng, 0.75, 1.3), uniform(rng, 0.8, 1.15)
    levels = np.arange(256) / 255.0
    channels = [levels**gamma * gain * uniform(rng, 1 - tint, 1 + tint) for _ in range(3)]
    table = np.clip(np.stack(channels, axis=-1) * 255 + 0.5, 0, 255).astype(np.uint8)[None]
    return lambda image: cv2.LUT(image, table)
