"""The body of a procedural person: a posed skeleton, dressed, as silhouettes ready to be drawn.

Every part is the outline of a few ellipsoids seen from the camera: two make a limb, three a trunk. Parts carry their
distance to the viewer, so that drawing them from back to front shows the same body from any side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from delvm_mm.datasets.procedural.looks import Look
from delvm_mm.datasets.procedural.poses import SIDES, Pose, Skeleton

LEVELS = ((1.0, 0.0, 78), (0.88, 0.08, 112), (0.66, 0.24, 128), (0.40, 0.42, 142))
"""Shading of a part: its outline shrunk to a fraction, moved to the light by a fraction of its radius, and its
brightness, 128 being the color itself."""

CIRCLE = np.stack([np.cos(np.arange(24) * np.pi / 12), np.sin(np.arange(24) * np.pi / 12)])

Blob = tuple[np.ndarray, np.ndarray]
"""An ellipsoid: center of shape (3,) and axes as the columns of a 3 x 3 matrix."""


@dataclass
class Part:
    """One thing to draw.

    Attributes:
        depth: Distance toward the viewer: nearer parts are drawn later.
        color: RGB in [0, 255].
        levels: Polygons, points N x 2 in body units (x right, y down), for each level of light; the first is the
            silhouette.
        gains: Brightness of each level, 128 = the color itself; empty: the light of what lies below stays.
        own: Whether it is part of the person (a chair is not).
    """

    depth: float
    color: np.ndarray
    levels: list[list[np.ndarray]]
    gains: tuple[int, ...] = ()
    own: bool = True


@dataclass
class Figure:
    """A dressed body seen by a camera; the constructor collects ``parts``, ordered from back to front.

    Attributes:
        skeleton: Joints in body axes.
        look: Body and clothes.
        pose: The pose of the skeleton.
        view: 3 x 3 rotation from body axes to the viewer's: x right, y up, z toward the viewer.
        light: Direction to the light in the image, shape (2,): x right, y down.
        parts: What to draw.
    """

    skeleton: Skeleton
    look: Look
    pose: Pose
    view: np.ndarray
    light: np.ndarray
    parts: list[Part] = field(default_factory=list)

    def __post_init__(self):
        self._add_legs()
        self._add_trunk()
        self._add_arms()
        self._add_head()
        if self.pose.seat:
            self._add_stool()
        self.parts.sort(key=lambda part: part.depth)

    def project(self, point: np.ndarray) -> np.ndarray:
        """Position in the image, body units, x right and y down, of a point in body axes; both of shape (..., k)."""
        seen = point @ self.view.T
        return np.stack([seen[..., 0], -seen[..., 1]], axis=-1)

    def depth(self, *points: np.ndarray) -> float:
        """Mean distance of points in body axes toward the viewer."""
        return float(np.mean([self.view[2] @ point for point in points]))

    def keypoints(self) -> tuple[np.ndarray, np.ndarray]:
        """The 17 COCO keypoints: positions 17 x 2 in body units, and 17 flags, 0 where the head hides a feature."""
        body, axes = self.skeleton, self.skeleton.head_axes
        face = np.array([[0, -0.16, 1.02], [0.3, 0.06, 0.85], [-0.3, 0.06, 0.85], [0.8, -0.08, 0], [-0.8, -0.08, 0]])
        joints = np.stack(
            [
                joint
                for pair in (body.shoulders, body.elbows, body.wrists, body.hips, body.knees, body.ankles)
                for joint in pair
            ]
        )
        points = np.concatenate([body.head + self.look.head_radius * face @ axes.T, joints])
        # How far the surface under a feature is turned to the viewer, and how far it may be turned away.
        left, _, front = self.view[2] @ axes
        facing = np.array([front, front + 0.35 * left, front - 0.35 * left, left, -left])
        seen = facing > np.array([-0.2, 0.0, 0.0, -0.35, -0.35])
        return self.project(points), np.concatenate([seen, np.ones(12, dtype=bool)]).astype(np.float32)

    def _add(
        self,
        depth: float,
        color: np.ndarray,
        *hulls: Sequence[Blob],
        levels: tuple[tuple[float, float, int], ...] = LEVELS,
        own: bool = True,
    ) -> None:
        """Adds a part made of hulls; a hull is the convex outline of a few ellipsoids."""
        outlines = [[self._outline(blob) for blob in hull] for hull in hulls]

        def polygon(hull: list, scale: float, shift: float) -> np.ndarray:
            return _hull([center + scale * edge + shift * size * self.light for center, edge, size in hull])

        polygons = [[polygon(hull, scale, shift) for hull in outlines] for scale, shift, _ in levels]
        self.parts.append(Part(depth, color, polygons, tuple(level[2] for level in levels), own))

    def _outline(self, blob: Blob) -> tuple[np.ndarray, np.ndarray, float]:
        """Center, edge relative to it (24 x 2) and mean radius of an ellipsoid in the image."""
        axes = self.view[:2] @ blob[1] * np.array([[1.0], [-1.0]])
        reach = axes.T @ CIRCLE
        lengths = np.sqrt(np.sum(reach**2, axis=0)) + 1e-9
        return self.project(blob[0]), (axes @ (reach / lengths)).T, float(lengths.mean())

    def _add_flat(self, depth: float, color: np.ndarray, points: np.ndarray) -> None:
        """Adds a drawing on a surface: points N x 3 in body axes, without light of its own."""
        self.parts.append(Part(depth, color, [[self.project(points)]]))

    def _add_legs(self) -> None:
        body, look = self.skeleton, self.look
        wide = look.build
        for side in (0, 1):
            hip, knee, ankle, toe = body.hips[side], body.knees[side], body.ankles[side], body.toes[side]
            thigh_depth, shank_depth = self.depth(hip, knee), self.depth(knee, ankle)
            below = ankle + (toe - ankle) * 0.1 + (ankle - knee) * 0.06
            self._add(shank_depth + 0.012, look.shoes, [_ball(below, 0.030), _ball(toe, 0.021)])
            bare = look.legwear != "trousers"
            shank = [_ball(knee, 0.042 * wide), _ball(ankle, 0.026 if bare else 0.036)]
            calf = _ball(knee * 0.68 + ankle * 0.32, 0.044 * wide)
            self._add(shank_depth, look.skin if bare else look.bottom, [shank[0], calf], [calf, shank[1]])
            thigh = [_ball(hip, 0.066 * wide), _ball(knee, 0.044 * wide)]
            if bare:
                self._add(thigh_depth, look.skin, thigh)
                cut = 0.35 * hip + 0.65 * knee if look.legwear == "shorts" else 0.7 * hip + 0.3 * knee
                self._add(thigh_depth + 0.002, look.bottom, [_ball(hip, 0.070 * wide), _ball(cut, 0.060 * wide)])
            else:
                self._add(thigh_depth, look.bottom, thigh)
        pelvis = _ellipsoid(np.zeros(3), np.eye(3), 0.1 * wide, 0.06, 0.072)
        seat = [_ball(hip, 0.064 * wide) for hip in body.hips]
        self._add(self.depth(np.zeros(3)) + 0.08, look.bottom, [pelvis, *seat])
        # With a thigh raised high a stiff skirt would be a balloon; shorts of the same color remain.
        if look.legwear == "skirt" and max(abs(leg[0]) for leg in self.pose.legs) < 40:
            hem = [0.42 * hip + 0.58 * knee for hip, knee in zip(body.hips, body.knees, strict=True)]
            rims = [_ellipsoid(point, np.eye(3), 0.085 * wide, 0.012, 0.085) for point in hem]
            self._add(self.depth(*hem) + 0.085, look.bottom, [pelvis, *rims])

    def _add_trunk(self) -> None:
        body, look = self.skeleton, self.look
        axes, wide = body.trunk, look.build
        spine = body.chest
        depth = self.depth(spine * 0.5) + 0.09
        hem = _ellipsoid(spine * 0.02, np.eye(3), 0.1 * wide, 0.05, 0.074)
        waist = _ellipsoid(spine * 0.42, axes, 0.088 * wide * look.waist, 0.05, 0.064)
        chest = _ellipsoid(spine * 0.74, axes, 0.108 * wide, 0.075, 0.074)
        yoke = [_ball(shoulder * 0.9 + spine * 0.1 - axes[:, 1] * 0.012, 0.038 * wide) for shoulder in body.shoulders]
        collar = _ball(spine + axes[:, 1] * 0.008, 0.036)
        self._add(depth, look.top, [hem, waist], [waist, chest], [chest, *yoke, collar])
        neck = [_ball(spine + axes[:, 1] * 0.002, 0.034), _ball(body.head - body.head_axes[:, 1] * 0.045, 0.031)]
        self._add(max(depth + 1e-3, self.depth(neck[0][0]) + 0.095), look.skin, neck)
        facing = float(self.view[2] @ axes[:, 2])
        if look.pattern == "stripes":
            for low in (0.08, 0.28, 0.48, 0.68):
                edges = []
                for height in (low, low + 0.1):
                    width, thick = _girth(height, look.waist)
                    ring = _ellipsoid(spine * height, axes, width * wide * 0.985, 0.0, thick)
                    center, edge, _ = self._outline(ring)
                    edges.append(center + edge)
                self.parts.append(Part(depth + 1e-4, look.second, [[_hull(edges)]]))
        if facing > 0.15:
            self._add_front(depth + 2e-4)
        if look.backpack is not None:
            self._add_backpack(depth, facing)

    def _add_front(self, depth: float) -> None:
        """What only the front of a top shows: neckline, buttons, an emblem or an open jacket."""
        look, axes, spine = self.look, self.skeleton.trunk, self.skeleton.chest

        def at(left: float, height: float) -> np.ndarray:
            """A point on the chest: ``left`` in half widths, ``height`` along the spine."""
            width, thick = _girth(height, look.waist)
            bulge = np.sqrt(max(0.0, 1 - left * left))
            return spine * height + axes @ np.array([left * width * look.build, 0.0, 0.96 * thick * bulge])

        top = spine + axes @ np.array([0.0, 0.018, 0.036])
        neckline = np.stack(
            [top + axes[:, 0] * 0.032, at(0.18, 0.97), at(0.0, 0.86), at(-0.18, 0.97), top - axes[:, 0] * 0.032]
        )
        if look.pattern == "jacket":
            opening = [(0.14, 0.97), (0.22, 0.6), (0.3, 0.04), (-0.3, 0.04), (-0.22, 0.6), (-0.14, 0.97)]
            self._add_flat(depth, look.second, np.stack([at(*spot) for spot in opening]))
        elif look.pattern == "emblem":
            turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
            spots = [at(0.45 * np.cos(angle), 0.62 + 0.13 * np.sin(angle)) for angle in turn]
            self._add_flat(depth, look.second, np.stack(spots))
        elif look.pattern == "buttons":
            dark = look.top * 0.55
            placket = [(0.03, 0.9), (0.03, 0.04), (-0.03, 0.04), (-0.03, 0.9)]
            self._add_flat(depth, dark, np.stack([at(*spot) for spot in placket]))
        self._add_flat(depth + 1e-5, look.skin * 0.93, neckline)

    def _add_backpack(self, depth: float, facing: float) -> None:
        axes, spine, color = self.skeleton.trunk, self.skeleton.chest, self.look.backpack
        pack = [
            _ellipsoid(spine * height - axes[:, 2] * 0.085, axes, 0.085, 0.05, 0.05) for height in (0.28, 0.5, 0.82)
        ]
        self._add(depth + (0.03 if facing < 0.1 else -0.03), color, pack)
        if facing > 0.15:
            for side in SIDES:
                strap = [(0.055, 1.02, 0.045), (0.06, 0.55, 0.08), (0.078, 0.55, 0.08), (0.073, 1.02, 0.045)]
                points = [spine * height + axes @ np.array([side * left, 0.0, front]) for left, height, front in strap]
                self._add_flat(depth + 3e-4, color * 0.8, np.stack(points))

    def _add_arms(self) -> None:
        body, look = self.skeleton, self.look
        wide = look.build
        for side in (0, 1):
            shoulder, elbow = body.shoulders[side], body.elbows[side]
            wrist, fingers = body.wrists[side], body.fingers[side]
            upper_depth = self.depth(0.35 * shoulder + 0.65 * elbow) + 0.13
            lower_depth = max(self.depth(elbow, wrist), self.depth(elbow) - 0.03) + 0.132
            if self.depth(wrist) < self.depth(body.chest) - 0.06:  # behind the back
                lower_depth = self.depth(elbow, wrist) + 0.1
            long_sleeve = look.sleeves == "long"
            cover = look.top if long_sleeve else look.skin
            hand = [_ball(wrist, 0.021), _ball(0.4 * wrist + 0.6 * fingers, 0.024), _ball(fingers, 0.013)]
            self._add(lower_depth + 1e-3, look.skin, hand)
            self._add(lower_depth, cover, [_ball(elbow, 0.030 * wide), _ball(wrist, 0.026 if long_sleeve else 0.022)])
            self._add(upper_depth, cover, [_ball(shoulder, 0.041 * wide), _ball(elbow, 0.031 * wide)])
            if look.sleeves == "short":
                cut = 0.42 * shoulder + 0.58 * elbow
                self._add(upper_depth + 1e-4, look.top, [_ball(shoulder, 0.046 * wide), _ball(cut, 0.042 * wide)])

    def _add_head(self) -> None:
        body, look = self.skeleton, self.look
        radius, axes = look.head_radius, body.head_axes
        depth = self.depth(body.head) + 0.115
        left, _, front = self.view[2] @ axes

        def spot(x: float, y: float, z: float) -> np.ndarray:
            return body.head + axes @ (radius * np.array([x, y, z]))

        def blob(x: float, y: float, z: float, *sizes: float) -> Blob:
            return _ellipsoid(spot(x, y, z), axes, *(radius * size for size in sizes))

        self._add(depth, look.skin, [blob(0, -0.1, -0.05, 0.70, 0.85, 0.72)])
        face = [blob(0, 0.02, 0.33, 0.70, 0.76, 0.56), blob(0, -0.52, 0.36, 0.46, 0.44, 0.46)]
        self._add(depth + (4e-3 if front > -0.3 else 1e-3), look.skin, face)
        for side in SIDES:
            ear = [blob(side * 0.74, -0.1, 0.02, 0.1, 0.2, 0.13)]
            self._add(depth + (5e-3 if side * left > -0.3 else -1e-3), look.skin * 0.95, ear)
        self._add_hair(depth, blob, front)
        if front > 0.0:
            self._add_face(depth + 6e-3, spot, left)
        # In profile the nose stands out of the outline of the face.
        if front > -0.25:
            nose = [blob(0, 0.02, 0.84, 0.07, 0.1, 0.08), blob(0, -0.18, 0.94, 0.13, 0.1, 0.12)]
            self._add(depth + 7e-3, look.skin * 0.97, nose, levels=((1.0, 0.0, 100), (0.7, 0.35, 134)))

    def _add_hair(self, depth: float, blob: Callable[..., Blob], front: float) -> None:
        look = self.look
        style, color = look.hair_style, look.skin if look.hair_style == "bald" else look.hair
        order = depth + 2e-3
        crown = blob(0, 0.30, -0.16, 0.84, 0.80, 0.88)
        self._add(order, color, [crown, blob(0, -0.2, -0.5, 0.5, 0.4, 0.4)] if style != "bald" else [crown])
        if style == "long":
            fall = [blob(0, 0.1, -0.3, 0.88, 0.6, 0.7), blob(0, -1.25, -0.45, 0.78, 0.35, 0.3)]
            self._add(order if front < 0.1 else self.depth(fall[1][0]) + 0.085, color, fall)
        elif style == "ponytail":
            tail = [blob(0, 0.35, -1.0, 0.22, 0.22, 0.2), blob(0, -0.9, -1.25, 0.2, 0.4, 0.2)]
            self._add(depth + (8e-3 if front < 0.1 else -2e-3), color, tail)
        elif style == "bun":
            self._add(depth + (8e-3 if front < 0.1 else -2e-3), color, [blob(0, 1.05, -0.6, 0.4, 0.38, 0.4)])
        elif style == "cap":
            cap = [blob(0, 0.36, -0.08, 0.88, 0.02, 0.98), blob(0, 0.62, -0.12, 0.7, 0.52, 0.74)]
            self._add(depth + 8e-3, look.second, cap)
            visor = [blob(0, 0.36, 0.55, 0.62, 0.03, 0.3), blob(0, 0.28, 1.3, 0.45, 0.03, 0.25)]
            self._add(depth + (9e-3 if front > 0 else -3e-3), look.second * 0.8, visor)

    def _add_face(self, depth: float, spot: Callable[..., np.ndarray], left: float) -> None:
        """Eyes, brows and mouth, where they are on the side of the head that is seen."""
        skin = self.look.skin
        white, dark = np.array([245.0, 243.0, 240.0]), np.array([38.0, 26.0, 24.0])
        turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        for side in SIDES:
            # A feature beyond the edge of the face, as the far eye in profile, is not seen.
            front = float(self.view[2] @ self.skeleton.head_axes[:, 2])
            if front + 0.5 * side * left < 0.12:
                continue
            for width, height, color, order in ((0.155, 0.1, white, 0), (0.08, 0.092, dark, 1e-5)):
                eye = [spot(side * 0.3 + width * np.cos(a), 0.06 + height * np.sin(a), 0.82) for a in turn]
                self._add_flat(depth + order, color, np.stack(eye))
            brow = [(0.14, 0.25, 0.86), (0.32, 0.32, 0.82), (0.48, 0.25, 0.72), (0.47, 0.18, 0.72), (0.32, 0.25, 0.82)]
            color = dark if self.look.hair_style in ("bald", "cap") else self.look.hair * 0.75
            self._add_flat(depth, color, np.stack([spot(side * x, y, z) for x, y, z in brow]))
        mouth = [(-0.24, -0.48, 0.72), (0, -0.52, 0.84), (0.24, -0.48, 0.72), (0.12, -0.6, 0.8), (-0.12, -0.6, 0.8)]
        lips = skin * np.array([0.72, 0.42, 0.42])
        self._add_flat(depth, lips, np.stack([spot(x, y, z) for x, y, z in mouth]))

    def _add_stool(self) -> None:
        floor = min(point[1] for point in self.skeleton.toes) - 0.02
        color = np.array([120.0, 84.0, 52.0])

        def disc(height: float, radius: float) -> Blob:
            return _ellipsoid(np.array([0.0, height, 0.03]), np.eye(3), radius, 0.012, radius)

        leg = [_ball(np.array([0.0, height, 0.03]), 0.02) for height in (-0.1, floor)]
        self._add(-9.0, color, leg, own=False)
        self._add(-8.9, color, [disc(floor, 0.09)], own=False)
        self._add(-8.8, color, [disc(-0.085, 0.125), disc(-0.115, 0.125)], own=False)


def _ball(center: np.ndarray, radius: float) -> Blob:
    return center, np.eye(3) * radius


def _ellipsoid(center: np.ndarray, axes: np.ndarray, *sizes: float) -> Blob:
    return center, axes * np.array(sizes)


def _hull(outlines: list[np.ndarray]) -> np.ndarray:
    return cv2.convexHull(np.concatenate(outlines).astype(np.float32))[:, 0]


def _girth(height: float, waist: float) -> tuple[float, float]:
    """Half width and half depth of the trunk at a height along the spine, 0 at the hips and 1 at the shoulders."""
    at = (0.0, 0.42, 0.74, 1.0)
    width = np.interp(height, at, (0.1, 0.088 * waist, 0.108, 0.1))
    return float(width), float(np.interp(height, at, (0.074, 0.066, 0.074, 0.045)))
