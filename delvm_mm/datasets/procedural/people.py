"""People of procedural scenes: who stands where, their drawing and their 17 COCO keypoints.

The body is one body in space, so keypoints are right from every side: the person's left is at the right of a frontal
image and at the left of one from behind.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from delvm_mm.datasets.procedural.drawing import (
    SHIFT,
    fill,
    fixed_point,
    multiply,
    noise_field,
    noise_grids,
    pick,
    shade,
    soften,
    uniform,
)
from delvm_mm.datasets.procedural.figure import Figure, Part
from delvm_mm.datasets.procedural.looks import sample_look
from delvm_mm.datasets.procedural.poses import pose_skeleton, rotation, sample_pose


@dataclass
class Person:
    """A person at a place in the frame.

    Attributes:
        parts: What to draw, back to front, in normalized positions.
        keypoints: float64 17 x 2, normalized (x, y).
        visible: float32 of shape (17,): 1 labeled, 0 hidden by the head itself (the nose from behind) or outside.
        bbox: float64 of shape (4,), normalized x1, y1, x2, y2 of the drawn body, clipped to the frame.
        yaw: Where the person faces, degrees: 0 to the viewer, 90 to the right edge of the image, 180 away.
        pose: Name of the pose.
        ground: Normalized y of the floor below the person.
        shadow: Normalized (x, y, half width, half height) of the shadow on the floor.
        cloth: Random grids of the fabric.
    """

    parts: list[Part]
    keypoints: np.ndarray
    visible: np.ndarray
    bbox: np.ndarray
    yaw: float
    pose: str
    ground: float
    shadow: tuple[float, float, float, float]
    cloth: list[np.ndarray]


def plan_people(
    rng: np.random.Generator, thumbnail: np.ndarray, count: int, heights: tuple[float, float] = (0.68, 0.96)
) -> list[Person]:
    """Chooses people and their places.

    Args:
        rng: Source of randomness.
        thumbnail: The background at a fixed small size, RGB uint8, from which clothes are to stand out.
        count: Number of people. Several share the width of the frame and become smaller.
        heights: Smallest and largest height of a person in the frame; wide poses and company make less of it.

    Returns:
        The people, back to front.
    """
    light = np.array([pick(rng, (-1.0, 1.0)) * uniform(rng, 0.35, 0.8), -0.6])
    behind = thumbnail.reshape(-1, 3).mean(axis=0)
    people = []
    for slot in range(count):
        width = min(0.97, 1.25 / count)
        center = (slot + 0.5) / count
        people.append(_plan_person(rng, behind, light, heights, center, width))
    return sorted(people, key=lambda person: person.ground)


def draw_people(image: np.ndarray, people: list[Person]) -> None:
    """Draws people, back to front, in place on RGB uint8 size x size x 3."""
    for person in people:
        _draw_person(image, person)


def _plan_person(
    rng: np.random.Generator,
    behind: np.ndarray,
    light: np.ndarray,
    heights: tuple[float, float],
    center: float,
    width: float,
) -> Person:
    pose = sample_pose(rng)
    look = sample_look(rng, behind)
    yaw = pick(rng, pose.yaws) + uniform(rng, -12, 12)
    view = rotation("x", uniform(rng, -3, 9)) @ rotation("y", yaw)
    figure = Figure(pose_skeleton(pose, look.build, look.head_radius), look, pose, view, light)
    corners = np.concatenate([polygon for part in figure.parts if part.own for polygon in part.levels[0]])
    low, high = corners.min(axis=0).astype(np.float64), corners.max(axis=0).astype(np.float64)
    extent = high - low
    scale = min(uniform(rng, *heights) / extent[1], width / extent[0])
    extent = extent * scale
    free = np.maximum(width - extent[0], 0.0)
    left = center - extent[0] / 2 + uniform(rng, -0.5, 0.5) * free
    left = min(max(left, -0.01), 1.01 - extent[0])
    lift = uniform(rng, 0.02, 0.09) if pose.airborne else 0.0
    bottom = min(uniform(rng, max(extent[1] + 0.01, 0.8), 1.0) - lift, 0.985)
    bottom = max(bottom, extent[1] + 0.005)
    offset = np.array([left, bottom - extent[1]]) - low * scale
    for part in figure.parts:
        part.levels = [[polygon * scale + offset for polygon in level] for level in part.levels]
    keypoints, visible = figure.keypoints()
    keypoints = keypoints * scale + offset
    visible = visible * np.all((keypoints >= 0) & (keypoints <= 1), axis=1)
    box = np.clip(np.concatenate([low * scale + offset, high * scale + offset]), 0, 1)
    spread = 0.6 * extent[0]
    middle = left + extent[0] / 2
    ground = bottom + lift
    return Person(
        parts=figure.parts,
        keypoints=keypoints,
        visible=visible.astype(np.float32),
        bbox=box,
        yaw=float(yaw),
        pose=pose.name,
        ground=ground,
        shadow=(middle - light[0] * 0.08, ground - 0.012, max(spread, 0.12 * scale), 0.035 * scale),
        cloth=noise_grids(rng, 64, 2),
    )


def _draw_person(image: np.ndarray, person: Person) -> None:
    size = image.shape[0]
    _draw_shadow(image, person)
    points = np.concatenate([polygon for part in person.parts for polygon in part.levels[0]])
    low = np.clip((points.min(axis=0) * size - 4).astype(int), 0, size)
    high = np.clip((points.max(axis=0) * size + 5).astype(int), 0, size)
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    # 128 keeps a color: outside the body nothing changes when the light is multiplied in.
    light = np.full((size, size), 128, dtype=np.uint8)
    mask = np.zeros((size, size), dtype=np.uint8)
    for part in person.parts:
        color = shade(part.color, 1.0)
        silhouettes = [fixed_point(polygon, size) for polygon in part.levels[0]]
        for silhouette in silhouettes:
            cv2.fillConvexPoly(image, silhouette, color, cv2.LINE_AA, SHIFT)
            cv2.fillConvexPoly(mask, silhouette, 255, cv2.LINE_AA, SHIFT)
        for level, gain in zip(part.levels, part.gains, strict=False):
            for polygon in level:
                cv2.fillConvexPoly(light, fixed_point(polygon, size), gain, cv2.LINE_AA, SHIFT)
    inside = soften(light[window], 0.003, size)
    cloth = noise_field(person.cloth, 256, 0.9)
    cloth = cv2.resize(cloth, inside.shape[::-1], interpolation=cv2.INTER_LINEAR)
    inside = cv2.multiply(inside, cv2.addWeighted(cloth, 0.07, cloth, 0, 119), scale=1.0 / 128)
    inside[mask[window] == 0] = 128
    image[window] = multiply(image[window], inside)


def _draw_shadow(image: np.ndarray, person: Person) -> None:
    size = image.shape[0]
    x, y, half_width, half_height = person.shadow
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    light = np.full((size, size), 128, dtype=np.uint8)
    for grow, gain in ((1.0, 104), (0.75, 82), (0.5, 66)):
        ring = np.stack([x + grow * half_width * np.cos(turn), y + grow * half_height * np.sin(turn)], axis=-1)
        fill(light, ring, gain)
    top = max(int((y - 2 * half_height) * size), 0)
    bottom = min(int((y + 2 * half_height) * size) + 1, size)
    if top < bottom:
        image[top:bottom] = multiply(image[top:bottom], soften(light[top:bottom], 0.01, size))
