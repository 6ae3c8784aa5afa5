"""Reading all people (animals, hands) back from an image of skeletons: places of joints, then groups along limbs.

First every disc is found, also where others cover a part of it; where a limb ends under a disc that is not its own, the
covered one is supposed. Pairs of discs with a limb between them are joined, the best seen ones first, where that gives
nobody two joints of a kind (the greedy parsing of Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part
Affinity Fields", CVPR 2017, on what was drawn instead of on a network's maps), and where no limb is missing that would
have been drawn. What no limb joins, such as the face and the legs of a person of whom a shoulder is not seen, goes to
the nearest group in whose reach it lies.
"""

import cv2
import numpy as np

from delvm_mm.codecs.skeletons.skeleton_discs import (
    SCORE_SUPPOSED,
    Piece,
    Places,
    find_discs,
    find_pieces,
    suppose_discs,
    suppose_middles,
)
from delvm_mm.codecs.skeletons.skeleton_layout import SkeletonLayout
from delvm_mm.codecs.skeletons.skeleton_reader import READING_RADIUS, color_codes, color_tables, limb_support, look_up

__all__ = ["read_people"]

_LEAST_LIMB = 0.05  # support of a limb that joins
_MOST_DARK = 0.12  # of a limb that is drawn
_MOST_COST = 1.3  # of joining what no limb joins: about the distance as a part of the farthest that is possible

Group = dict[int, int]  # joint -> number of its place


def read_people(image: np.ndarray, layout: SkeletonLayout) -> tuple[np.ndarray, np.ndarray]:
    """Find all skeletons in an image whose discs have radius ``READING_RADIUS``.

    Args:
        image: RGB, uint8, H x W x 3.
        layout: What was drawn.

    Returns:
        Points (N x J x 2, x and y; NaN where a joint was not found) and scores (N x J, in 0..1, 0 there).
    """
    count = len(layout.joints)
    value = image.max(2)
    lit = value > 48
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    if not len(rows):
        return np.empty((0, count, 2)), np.empty((0, count))
    margin = 2 * READING_RADIUS
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    crop = image[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]
    code = color_codes(crop, value[lit])
    discs, limbs, nothing = (table[code] for table in color_tables(layout.colors, layout.limb_colors))
    places = find_discs(discs, limbs, nothing, crop.max(2) / max(np.percentile(value[lit], 98), 128))
    pieces = find_pieces(limbs, places, layout)
    suppose_middles(places, nothing, layout)
    suppose_discs(places, pieces, layout)
    grouping = _Grouping(places, pieces, limbs, nothing, layout)
    grouping.by_middles()
    grouping.by_limbs()
    grouping.by_reach()
    points = np.full((len(grouping.groups), count, 2), np.nan)
    scores = np.zeros((len(grouping.groups), count))
    for number, group in enumerate(grouping.groups):
        for joint, place in group.items():
            points[number, joint] = places[joint].points[place]
            scores[number, joint] = places[joint].scores[place]
        _suppose_between(points[number], scores[number], nothing, layout)
    return points + np.array([left, top]), scores


def _suppose_between(points: np.ndarray, scores: np.ndarray, nothing: np.ndarray, layout: SkeletonLayout) -> None:
    """Add, in place, a person's joints that have no room to be seen between two discs of it, as a nose between eyes."""
    for joint in np.flatnonzero(scores == 0):
        linked = layout.limbs[(layout.limbs == joint).any(1)].sum(1) - joint
        known = points[linked[scores[linked] > 0]]
        if len(known) < 2:
            continue
        apart = np.hypot(*np.moveaxis(known[:, None] - known[None], -1, 0)) + 1e6 * np.eye(len(known))
        one, other = np.unravel_index(apart.argmin(), apart.shape)
        place = (known[one] + known[other]) / 2
        if apart[one, other] < 4 * READING_RADIUS and look_up(nothing, place) < 0.5:
            points[joint], scores[joint] = place, SCORE_SUPPOSED


class _Grouping:
    """Groups of places that are joined two by two.

    Args:
        places: Of each joint.
        pieces: Of limbs.
        limbs: How much each pixel looks like each limb, H x W x L.
        nothing: How dark it is, H x W.
        layout: What was drawn.
    """

    def __init__(
        self,
        places: list[Places],
        pieces: list[Piece],
        limbs: np.ndarray,
        nothing: np.ndarray,
        layout: SkeletonLayout,
    ) -> None:
        self.places, self.layout = places, layout
        self._pieces = pieces
        self._apart = layout.distances()
        self._middle = int(np.flatnonzero(layout.keypoint_of < 0)[0]) if layout.middle else -1
        self._sides = [int(layout.joint_of[keypoint]) for keypoint in layout.middle]
        window = np.ones((3, 3), np.uint8)
        self.support, self.dark = [], []
        for limb, (one, other) in enumerate(layout.limbs):
            starts, ends = places[one].points, places[other].points
            own = np.ascontiguousarray(limbs[..., limb])
            support = limb_support(cv2.dilate(own, window) - 1.2 * nothing, own, starts, ends, np.inf)
            apart = np.hypot(*np.moveaxis(starts[:, None] - ends[None], -1, 0)) / READING_RADIUS
            # no limb can be seen between discs that touch
            self.support.append(support + 0.4 * np.clip(1.5 - apart / 3, 0, 1) - 0.003 * apart)
            along = starts[:, None, None] + (ends[None] - starts[:, None])[:, :, None] * np.linspace(0, 1, 24)[:, None]
            self.dark.append((look_up(nothing, along) > 0.6).mean(-1))
        self._group_of: dict[tuple[int, int], Group] = {
            (joint, number): {joint: number} for joint, of in enumerate(places) for number in range(len(of.points))
        }

    @property
    def groups(self) -> list[Group]:
        """All of them, without those that only consist of supposed discs."""
        groups = {id(group): group for group in self._group_of.values()}.values()
        return [
            group for group in groups if any(number < self.places[joint].supposed for joint, number in group.items())
        ]

    def by_middles(self) -> None:
        """Join what a middle belongs to, such as a neck and two shoulders, the best fitting first."""
        if self._middle < 0:
            return
        points = [self.places[joint].points for joint in (self._middle, *self._sides)]
        off = (points[1][None, :, None] + points[2][None, None]) / 2 - points[0][:, None, None]
        off = np.hypot(*np.moveaxis(off, -1, 0)) / READING_RADIUS
        cost = off.copy()
        for side, axis in zip(self._sides, (2, 1), strict=True):
            for limb, ends in enumerate(self.layout.limbs):
                if set(ends) == {self._middle, side}:
                    support = self.support[limb] if ends[0] == self._middle else self.support[limb].T
                    cost = cost - np.expand_dims(support, axis)
        cost[self.places[self._middle].supposed :] += 1
        found = zip(*np.nonzero((off < 0.6) & (cost < 0.8)), strict=True)
        for place in sorted(found, key=cost.__getitem__):
            middle, one, other = zip((self._middle, *self._sides), map(int, place), strict=True)
            if all(len(self._group_of[node]) == 1 for node in (middle, one, other)):
                self._join(middle, one)
                self._join(middle, other)

    def by_limbs(self) -> None:
        """Join along limbs that are seen, the best first; then those to supposed discs."""
        edges: tuple[list, list] = [], []
        for support, limb, (one, other) in zip(self.support, range(len(self.support)), self.layout.limbs, strict=True):
            for start, end in zip(*(axis.tolist() for axis in np.nonzero(support > _LEAST_LIMB)), strict=True):
                covered = start >= self.places[one].supposed or end >= self.places[other].supposed
                edges[covered].append((support[start, end], limb, (int(one), start), (int(other), end)))
        for _, _, start, end in sorted(edges[0], reverse=True):
            self._try(start, end)
        for _, limb, start, end in sorted(edges[1], reverse=True):
            if not self._is_explained(limb, start, end):
                self._try(start, end)

    def by_reach(self) -> None:
        """Join groups that may be parts of one body, the nearest first; single discs to each other last."""
        groups = self.groups
        sizes = [self._size_of(group) for group in groups]
        usual = float(np.median([size for size in sizes if size > 0])) if any(sizes) else np.inf
        alive = set(range(len(groups)))
        for alone in (False, True):
            costs = {
                (i, j): self._cost(groups[i], groups[j], sizes[i], sizes[j], usual)
                for i in alive
                for j in alive
                if j < i and (alone or sizes[i] or sizes[j])
            }
            costs = {key: value for key, value in costs.items() if np.isfinite(value)}
            while costs:
                one, other = min(costs, key=costs.__getitem__)
                groups[one].update(groups[other])
                for node in groups[other].items():
                    self._group_of[node] = groups[one]
                sizes[one] = self._size_of(groups[one])
                alive.discard(other)
                costs = {key: value for key, value in costs.items() if one not in key and other not in key}
                for third in alive - {one}:
                    cost = self._cost(groups[one], groups[third], sizes[one], sizes[third], usual)
                    if np.isfinite(cost):
                        costs[one, third] = cost

    def _try(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        first, second = self._group_of[start], self._group_of[end]
        if first is not second and self._may_join(first, second):
            self._join(start, end)

    def _join(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        first, second = self._group_of[start], self._group_of[end]
        first.update(second)
        for node in second.items():
            self._group_of[node] = first

    def _is_explained(self, limb: int, start: tuple[int, int], end: tuple[int, int]) -> bool:
        """Whether every piece of a limb that leads to a supposed disc lies between two discs that are joined."""
        one, other = start[0], end[0]
        pieces = [piece for piece in self._pieces if piece.limb == limb and (start[1], end[1]) in piece.pairs]
        return bool(pieces) and all(
            any(
                pair != (start[1], end[1]) and self._group_of[one, pair[0]] is self._group_of[other, pair[1]]
                for pair in piece.pairs
            )
            for piece in pieces
        )

    def _may_join(self, first: Group, second: Group) -> bool:
        """Whether two groups can be parts of one body: no joint twice, and no limb missing that would be drawn."""
        if first.keys() & second.keys():
            return False
        both = first | second
        for limb, (one, other) in enumerate(self.layout.limbs):
            across = one in both and other in both and (one in first) != (other in first)
            if across and self.dark[limb][both[one], both[other]] > _MOST_DARK:
                return False
        if self._middle < 0 or not all(side in both for side in self._sides):
            return True
        if self._middle not in both:
            return False
        wanted = np.mean([self.places[side].points[both[side]] for side in self._sides], axis=0)
        return bool(np.hypot(*(self.places[self._middle].points[both[self._middle]] - wanted)) < 0.75 * READING_RADIUS)

    def _points_of(self, group: Group) -> np.ndarray:
        return np.array([self.places[joint].points[number] for joint, number in group.items()])

    def _size_of(self, group: Group) -> float:
        """Pixels to a unit of length, as far as one can tell: most limbs are foreshortened."""
        if len(group) < 2:
            return 0.0
        joints, points = list(group), self._points_of(group)
        far = np.hypot(*np.moveaxis(points[:, None] - points[None], -1, 0))
        reach = self._apart[np.ix_(joints, joints)]
        return float(np.percentile(far[reach > 0] / reach[reach > 0], 90))

    def _cost(self, first: Group, second: Group, one: float, other: float, usual: float) -> float:
        """How badly two groups fit together; infinite where they cannot be joined."""
        size = max(one, other) or usual
        if not self._may_join(first, second):
            return np.inf
        far = np.hypot(*np.moveaxis(self._points_of(first)[:, None] - self._points_of(second)[None], -1, 0))
        reach = self._apart[np.ix_(list(first), list(second))]
        weight = 1 / reach**2
        ratio = float((far / (size * reach) * weight).sum() / weight.sum())
        if ratio > _MOST_COST:
            return np.inf
        unlike = abs(np.log(one / other)) if one and other else 0.0
        # a large body reaches everything: between two that do, the nearer one
        return ratio * (size / usual) ** 0.5 + 0.3 * max(unlike - 0.3, 0) if np.isfinite(size) else float(far.min())
