"""Rooms of known depth: a floor that recedes to a wall, and objects that stand on it."""

from dataclasses import dataclass

import cv2
import numpy as np

from delvm_mm.datasets.procedural.backgrounds import Background, plan_background
from delvm_mm.datasets.procedural.drawing import integer, multiply, uniform
from delvm_mm.datasets.procedural.objects import SceneObject, draw_objects, plan_light, plan_object

FOCAL = 1.0
"""Focal length, in sides of the frame."""
CAMERA_HEIGHT = 1.4
"""Of the camera above the floor, in meters."""
NEAREST, FARTHEST = 2.0, 10.0
"""No depth of a scene is outside of these, in meters."""


@dataclass(frozen=True)
class Room:
    """A planned scene.

    Attributes:
        horizon: Height of the camera in the image, a part of the frame from above.
        distance: Of the wall, in meters.
        wall: Its look.
        floor: That of the floor, in tiles of ``tile`` meters.
        tile: Side of a tile in meters.
        haze: Depth in meters over which light falls by a factor of e.
        objects: From back to front, each with its depth in meters.
    """

    horizon: float
    distance: float
    wall: Background
    floor: Background
    tile: float
    haze: float
    objects: tuple[tuple[SceneObject, float], ...]


def plan_room(rng: np.random.Generator) -> Room:
    """Chooses a room with two to four objects, to be drawn at any size.

    Args:
        rng: Source of randomness.

    Returns:
        The room.
    """
    horizon, distance = uniform(rng, 0.3, 0.42), uniform(rng, 5.0, FARTHEST)
    wall, floor = plan_background(rng, "objects"), plan_background(rng, "objects")
    tile, haze, light = uniform(rng, 1.2, 2.5), uniform(rng, 6.0, 14.0), plan_light(rng)
    empty = Room(horizon, distance, wall, floor, tile, haze, ())
    thumbnail, _ = draw_room(empty, 32)
    nearest = CAMERA_HEIGHT * FOCAL / (0.97 - horizon)
    depths = sorted((uniform(rng, nearest, 0.85 * distance) for _ in range(integer(rng, 2, 4))), reverse=True)
    objects = []
    for depth in depths:
        radius = uniform(rng, 0.25, 0.5) * FOCAL / depth
        foot = horizon + CAMERA_HEIGHT * FOCAL / depth
        center = np.array([uniform(rng, 0.12, 0.88), foot - 0.85 * radius])
        objects.append((plan_object(rng, thumbnail, center, radius, light), depth))
    return Room(horizon, distance, wall, floor, tile, haze, tuple(objects))


def draw_room(room: Room, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a room.

    Args:
        room: From :func:`plan_room`.
        size: Side in pixels.

    Returns:
        RGB uint8 size x size x 3, and depth along the view in meters, float32 size x size.
    """
    axis = (np.arange(size) + 0.5) / size
    of_row = np.full(size, room.distance)
    below = axis > room.horizon
    of_row[below] = np.minimum(room.distance, CAMERA_HEIGHT * FOCAL / (axis[below] - room.horizon))
    depth = np.repeat(of_row[:, None], size, axis=1).astype(np.float32)
    image = room.wall.render(size).copy()
    floor = of_row < room.distance
    ahead = of_row[floor][:, None]
    across = (axis - 0.5)[None] * ahead / FOCAL
    places = [_mirrored(way / room.tile) * (size - 1) for way in (across, np.repeat(ahead, size, axis=1))]
    tiles = room.floor.render(size)
    image[floor] = cv2.remap(tiles, *(place.astype(np.float32) for place in places), cv2.INTER_LINEAR)
    for item, at in room.objects:
        mask = np.zeros((size, size), np.uint8)
        draw_objects(image, mask, [item])
        depth[mask >= 128] = at
    light = 160 * np.exp((NEAREST - depth) / room.haze)
    return multiply(image, np.clip(light + 0.5, 0, 255).astype(np.uint8)), depth


def _mirrored(turns: np.ndarray) -> np.ndarray:
    """0 to 1 and back, so that tiles meet without a seam."""
    return np.abs((turns + 1) % 2 - 1)
