"""Objects of procedural scenes: shaded, textured shapes that cast a shadow and stand out from the background."""

from dataclasses import dataclass

import cv2
import numpy as np

from delvm_mm.datasets.procedural.drawing import (
    blend,
    fill,
    hsv,
    integer,
    noise_field,
    noise_grids,
    palette_lookup,
    pick,
    shade,
    soften,
    stroke,
    uniform,
)

SHAPES = ("ellipse", "rounded box", "polygon", "star", "blob", "vase", "leaf", "ring", "crate")
TEXTURES = ("plain", "plain", "stripes", "checks", "dots", "marble", "two colors")


@dataclass
class SceneObject:
    """One object.

    Attributes:
        outline: Normalized points N x 2 of its edge.
        hole: Normalized points M x 2 of the edge of its hole, or None.
        shape: One of ``SHAPES``.
        center: Normalized (x, y).
        radius: Half its extent, a fraction of the frame.
        angle: Rotation in radians.
        color: RGB in [0, 255]; ``second_color`` is the one of its pattern.
        second_color: RGB in [0, 255].
        texture: One of ``TEXTURES``.
        period: Length of the pattern relative to the radius.
        light: Unit vector to the light: x right, y down, z to the viewer.
        gloss: Strength of the highlight in [0, 1].
        edge: Strength of the dark line around it in [0, 1].
        grids: Random grids of its marbling.
    """

    outline: np.ndarray
    hole: np.ndarray | None
    shape: str
    center: np.ndarray
    radius: float
    angle: float
    color: np.ndarray
    second_color: np.ndarray
    texture: str
    period: float
    light: np.ndarray
    gloss: float
    edge: float
    grids: list[np.ndarray]


def plan_objects(
    rng: np.random.Generator, thumbnail: np.ndarray, count: int, radii: tuple[float, float] = (0.12, 0.26)
) -> list[SceneObject]:
    """Chooses ``count`` objects that stand out from the background.

    Args:
        rng: Source of randomness.
        thumbnail: The background at a fixed small size, RGB uint8; the same at every image size, so that the
            colors chosen from it are.
        count: Number of objects; the first is the largest.
        radii: Smallest and largest radius, fractions of the frame.

    Returns:
        The objects, back to front.
    """
    light = plan_light(rng)
    objects = []
    for number in range(count):
        low = radii[0] + (radii[1] - radii[0]) * (0.45 if number == 0 else 0.0)
        radius = uniform(rng, low, radii[1] if number == 0 else radii[0] + (radii[1] - radii[0]) * 0.7)
        places = [np.array([uniform(rng, 0.8 * radius, 1 - 0.8 * radius) for _ in range(2)]) for _ in range(4)]
        place = max(places, key=lambda spot: min([1.0] + [_gap(spot, radius, other) for other in objects]))
        objects.append(plan_object(rng, thumbnail, place, radius, light))
    return objects


def draw_objects(image: np.ndarray, mask: np.ndarray | None, objects: list[SceneObject]) -> None:
    """Draws objects, back to front, in place.

    Args:
        image: RGB uint8 size x size x 3.
        mask: uint8 size x size of coverage, 255 where there is an object (shadows do not count), or None.
        objects: From :func:`plan_objects`.
    """
    for item in objects:
        _draw_object(image, mask, item)


def _gap(spot: np.ndarray, radius: float, other: SceneObject) -> float:
    """Distance from one object to another, negative where they overlap."""
    return float(np.sqrt(np.sum((spot - other.center) ** 2))) - radius - other.radius


def plan_light(rng: np.random.Generator) -> np.ndarray:
    """Chooses where the light comes from: a unit vector, from above and from the viewer's side."""
    azimuth = uniform(rng, 3.4, 6.0)
    light = np.array([np.cos(azimuth) * 0.62, np.sin(azimuth) * 0.62, 0.78])
    return light / np.sqrt(np.sum(light * light))


def plan_object(
    rng: np.random.Generator,
    thumbnail: np.ndarray,
    center: np.ndarray,
    radius: float,
    light: np.ndarray,
    shape: str | None = None,
    texture: str | None = None,
) -> SceneObject:
    """Chooses one object that stands out from the background; ``shape`` and ``texture`` at random where not given."""
    shape = shape or pick(rng, SHAPES, (4, 3, 2, 2, 3, 3, 1.5, 1.5, 2.5))
    angle = uniform(rng, -0.25, 0.25) if shape in ("vase", "crate") else uniform(rng, 0, 6.283)
    side = thumbnail.shape[0]
    low, high = (np.clip((center + sign * radius) * side, 0, side).astype(int) for sign in (-1, 1))
    behind = thumbnail[low[1] : high[1] + 1, low[0] : high[0] + 1].reshape(-1, 3).mean(axis=0)
    candidates = [hsv(rng.random(), uniform(rng, 0.45, 0.95), uniform(rng, 0.35, 1.0)) for _ in range(5)]
    color = max(candidates, key=lambda candidate: float(np.abs(candidate - behind) @ (0.35, 0.45, 0.2)))
    second = pick(rng, (color * 0.55, 255 - (255 - color) * 0.45, hsv(rng.random(), 0.6, 0.85)))
    points, hole = _outline(rng, shape)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return SceneObject(
        outline=center + radius * points @ turn,
        hole=None if hole is None else center + radius * hole @ turn,
        shape=shape,
        center=center,
        radius=radius,
        angle=angle,
        color=color,
        second_color=second,
        texture=texture or pick(rng, TEXTURES),
        period=uniform(rng, 0.28, 0.6),
        light=light,
        gloss=uniform(rng, 0.0, 0.8),
        edge=uniform(rng, 0.0, 0.7),
        grids=noise_grids(rng, 4, 3),
    )


def _outline(rng: np.random.Generator, shape: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The edge of a shape, points N x 2 in [-1, 1], and that of its hole or None."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    aspect = np.array([1.0, uniform(rng, 0.6, 1.0)])
    if shape == "ellipse":
        return circle * aspect, None
    if shape == "ring":
        return circle * aspect, circle * aspect * uniform(rng, 0.35, 0.6)
    if shape == "rounded box":
        return np.sign(circle) * np.abs(circle) ** uniform(rng, 0.25, 0.6) * aspect * 0.85, None
    if shape == "leaf":
        width = uniform(rng, 0.35, 0.6) * np.abs(np.sin(turn)) ** 0.35
        return circle * np.stack([np.ones_like(turn), width], axis=-1), None
    if shape == "vase":
        spans = ((0.25, 0.5), (0.15, 0.4), (0.5, 0.75), (0.3, 0.6), (0.3, 0.5))
        knots = np.array([uniform(rng, *span) for span in spans])
        height = np.linspace(-1, 1, 40)
        width = cv2.resize(knots[:, None], (1, 40), interpolation=cv2.INTER_CUBIC)[:, 0]
        right = np.stack([width, height], axis=-1)
        return np.concatenate([right, right[::-1] * (-1, 1)]), None
    if shape == "crate":
        return np.array([[-0.9, -0.35], [-0.3, -0.8], [0.9, -0.6], [0.9, 0.35], [0.25, 0.85], [-0.9, 0.5]]), None
    if shape == "blob":
        waves = sum(
            uniform(rng, 0.0, 0.22) / np.sqrt(order) * np.cos(order * turn + uniform(rng, 0, 6.283))
            for order in (2, 3, 4, 5)
        )
        return circle * (0.75 + waves)[:, None], None
    sides = integer(rng, 5, 7) if shape == "star" else integer(rng, 3, 6)
    inner = uniform(rng, 0.45, 0.65)
    corners = np.linspace(0, 2 * np.pi, sides * (2 if shape == "star" else 1), endpoint=False)
    reach = np.where(np.arange(len(corners)) % 2, inner, 1.0) if shape == "star" else np.ones(len(corners))
    return _round_corners(np.stack([np.cos(corners), np.sin(corners)], axis=-1) * reach[:, None]), None


def _round_corners(points: np.ndarray, times: int = 3) -> np.ndarray:
    """Chaikin's corner cutting: each pass replaces a corner by two."""
    for _ in range(times):
        following = np.roll(points, -1, axis=0)
        cut = 0.18
        points = np.stack([points * (1 - cut) + following * cut, points * cut + following * (1 - cut)], axis=1)
        points = points.reshape(-1, 2)
    return points


def _draw_object(image: np.ndarray, mask: np.ndarray | None, item: SceneObject) -> None:
    size = image.shape[0]
    coverage = np.zeros((size, size), dtype=np.uint8)
    fill(coverage, item.outline, 255)
    if item.hole is not None:
        fill(coverage, item.hole, 0)
    reach = item.radius * 1.45
    low = np.clip(((item.center - reach) * size).astype(int), 0, size)
    high = np.clip(((item.center + reach) * size).astype(int) + 1, 0, size)
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    alpha = coverage[window]
    shift = np.floor(-item.light[:2] * item.radius * 0.3 * size + (0.0, 0.05 * item.radius * size)).astype(int)
    moved = np.float32([[1, 0, shift[0]], [0, 1, shift[1]]])
    shadow = soften(cv2.warpAffine(alpha, moved, alpha.shape[::-1]), item.radius * 0.07, size)
    under = image[window]
    dark = cv2.multiply(under, np.full_like(under, 90), scale=1.0 / 255)
    under = blend(under, dark, cv2.multiply(shadow, np.full_like(shadow, 200), scale=1.0 / 255))
    surface = _surface(item, (low[0], low[1]), alpha.shape, size)
    image[window] = blend(under, surface, alpha)
    if item.edge > 0.15:
        lines = [item.outline] if item.hole is None else [item.outline, item.hole]
        overlay = image[window].copy() if item.edge < 0.5 else None
        for line in lines:
            stroke(image, line, shade(item.color, 0.35), 0.006, closed=True)
        if overlay is not None:
            image[window] = cv2.addWeighted(image[window], 0.6, overlay, 0.4, 0)
    if mask is not None:
        np.maximum(mask, coverage, out=mask)


def _surface(item: SceneObject, corner: tuple[int, int], shape: tuple[int, int], size: int) -> np.ndarray:
    """Color of the object's surface in a window of the image: pattern times light."""
    across = ((np.arange(shape[1]) + corner[0] + 0.5) / size - item.center[0])[None, :] / item.radius
    down = ((np.arange(shape[0]) + corner[1] + 0.5) / size - item.center[1])[:, None] / item.radius
    across, down = across.astype(np.float32), down.astype(np.float32)
    cosine, sine = np.float32(np.cos(item.angle)), np.float32(np.sin(item.angle))
    own_x, own_y = across * cosine + down * sine, down * cosine - across * sine
    blendings = palette_lookup([item.color, item.second_color])
    color = blendings[_pattern(item, own_x, own_y, shape)]
    if item.shape == "crate":
        gain = _crate_faces(item, shape, corner, size)
    elif item.shape == "vase":
        height = np.sqrt(np.maximum(0.0, 1 - np.minimum((own_x / 0.7) ** 2, 1)))
        gain = 0.35 + 0.75 * np.maximum(0, own_x / 0.7 * item.light[0] * 0.9 + height * 0.75)
        gain = gain + item.gloss * 0.5 * np.exp(-(((own_x - 0.25 * np.sign(item.light[0])) / 0.09) ** 2))
    else:
        height = np.sqrt(np.maximum(0.05, 1.15 - across**2 - down**2))
        facing = across * item.light[0] + down * item.light[1] + height * item.light[2]
        gain = 0.36 + 0.78 * np.maximum(facing, 0) + item.gloss * 0.9 * np.maximum(facing - 0.55, 0) ** 2 * 2.2
    return np.clip(color * gain[..., None].astype(np.float32) + 0.5, 0, 255).astype(np.uint8)


def _pattern(item: SceneObject, own_x: np.ndarray, own_y: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Which of the object's two colors, 0 to 255 as uint8, at each point of its own coordinates."""
    turns_x, turns_y = own_x / item.period, own_y / item.period
    if item.texture == "stripes":
        level = np.abs(turns_y - np.floor(turns_y) - 0.5) < 0.22
    elif item.texture == "checks":
        level = (np.floor(turns_x) + np.floor(turns_y)) % 2
    elif item.texture == "dots":
        level = (turns_x - np.floor(turns_x) - 0.5) ** 2 + (turns_y - np.floor(turns_y) - 0.5) ** 2 < 0.09
    elif item.texture == "two colors":
        level = own_x + 0.2 * own_y > 0.05
    else:
        side = max(shape)
        strength = 1.0 if item.texture == "marble" else 0.25
        marble = noise_field(item.grids, side)[: shape[0], : shape[1]]
        return (marble.astype(np.float32) * strength).astype(np.uint8)
    return (level * 255).astype(np.uint8)


def _crate_faces(item: SceneObject, shape: tuple[int, int], corner: tuple[int, int], size: int) -> np.ndarray:
    """Light of the three visible faces of a crate: top, left and right, which meet in its nearest corner."""
    edge = item.outline
    nearest = edge[0] + edge[2] - edge[1]
    left, right = (0.85, 0.55) if item.light[0] < 0 else (0.55, 0.85)
    faces = np.zeros((size, size), dtype=np.uint8)
    fill(faces, edge, int(1.15 * 128))
    fill(faces, np.array([edge[0], nearest, edge[4], edge[5]]), int(left * 128))
    fill(faces, np.array([edge[2], edge[3], edge[4], nearest]), int(right * 128))
    window = faces[corner[1] : corner[1] + shape[0], corner[0] : corner[0] + shape[1]]
    return np.maximum(window, 60).astype(np.float32) / 128
