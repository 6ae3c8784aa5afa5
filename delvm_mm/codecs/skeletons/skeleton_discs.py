"""Finding the discs of skeletons in an image, seen ones and covered ones, and the pieces of limbs between them."""

from dataclasses import dataclass

import cv2
import numpy as np

from delvm_mm.codecs.skeletons.skeleton_layout import SkeletonLayout
from delvm_mm.codecs.skeletons.skeleton_reader import READING_RADIUS, look_up

__all__ = ["SCORE_SUPPOSED", "Piece", "Places", "find_discs", "find_pieces", "suppose_discs", "suppose_middles"]

SCORE_SUPPOSED = 0.4  # of a disc that is covered
_LEAST_SEEN = 0.12  # of a disc's area
_LEAST_LIKE = 0.6  # of the pixel that is most like it
_LEAST_BRIGHT = 0.9  # of what discs mostly are
_MOST_PLACES = 60  # of a joint


@dataclass
class Places:
    """Discs of one joint: ``points`` N x 2, x and y; ``scores`` N, in 0..1; from ``supposed`` on they are covered."""

    points: np.ndarray
    scores: np.ndarray
    supposed: int


def find_discs(discs: np.ndarray, limbs: np.ndarray, nothing: np.ndarray, value: np.ndarray) -> list[Places]:
    """Discs of every joint, the best seen ones first.

    Args:
        discs: How much a pixel looks like each joint's disc, H x W x J.
        limbs: How much it looks like each limb, H x W x L.
        nothing: How dark it is, H x W.
        value: Brightness, H x W, about 1 in discs.

    Returns:
        The discs of each joint.
    """
    value = value.astype(np.float32)
    kernel = _disc_kernel()
    best = discs.max(2)
    # Another's disc may cover this one and says nothing; a limb may too, and mostly does not.
    against = np.minimum(nothing + 0.6 * np.where(best < 0.3, limbs.max(2), 0), 1)
    against = cv2.filter2D(against, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    found = []
    for joint in range(discs.shape[2]):
        own = discs[..., joint]
        own = np.where(own >= 0.7 * best, own, 0)  # a neighboring color is none
        seen = cv2.filter2D(own, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        fit = seen - against
        peaks = (fit > 0) & (seen > _LEAST_SEEN) & (fit >= cv2.dilate(fit, np.ones((5, 5), np.uint8)))
        y, x = np.nonzero(peaks & (cv2.dilate(own, np.ones((5, 5), np.uint8)) > _LEAST_LIKE))
        whole = seen[y, x].astype(np.float64)
        bright = cv2.filter2D(own * value, -1, kernel, borderType=cv2.BORDER_REPLICATE)[y, x] / whole
        points = np.stack([x, y], -1) + _finer(fit, y, x)
        points = np.where(whole[:, None] > 0.7, _middles(own, points), points)
        scores = np.clip(whole * whole / (whole + against[y, x] + 1e-6) / 0.7, 0.35, 1)
        found.append((points, scores, whole, bright))
    whole, bright = (np.concatenate([of[part] for of in found]) for part in (2, 3))
    # Where limbs cross it is 0.84; blurred discs are darker too, but all of them.
    usual = np.median(bright[whole > 0.5]) if (whole > 0.5).any() else 1.0
    places = []
    for points, scores, whole, bright in found:
        order = np.argsort(-whole, kind="stable")
        order = order[bright[order] > _LEAST_BRIGHT * min(usual, 1)][:_MOST_PLACES]
        kept = order[_not_twice(points[order])]
        places.append(Places(points[kept], scores[kept], len(kept)))
    return places


def _disc_kernel() -> np.ndarray:
    """A disc of ``READING_RADIUS`` with a smooth edge, of sum 1."""
    reach = READING_RADIUS + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(READING_RADIUS + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return kernel / kernel.sum()


def _finer(values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Peaks of ``values`` to a part of a pixel, by parabolas: shifts N x 2, x and y."""
    padded = np.pad(values, 1, mode="edge")
    middle = padded[y + 1, x + 1]
    shifts = []
    for before, after in ((padded[y + 1, x], padded[y + 1, x + 2]), (padded[y, x + 1], padded[y + 2, x + 1])):
        bend = 2 * middle - before - after
        shifts.append(np.clip((after - before) / (2 * np.maximum(bend, 1e-6)), -0.5, 0.5))
    return np.stack(shifts, -1)


def _middles(own: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Mean shift of points (N x 2) to the middle of the pixels that look like the disc."""
    reach = READING_RADIUS + 1
    offsets = np.stack(np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1)), -1).reshape(-1, 2)
    padded = np.pad(own, reach + 2)
    for _ in range(2):
        near = np.round(points[:, None]).astype(int) + offsets
        weight = look_up(padded, near + reach + 2)
        weight = weight * np.clip(READING_RADIUS + 1 - np.hypot(*np.moveaxis(near - points[:, None], -1, 0)), 0, 1)
        points = (weight[..., None] * near).sum(1) / np.maximum(weight.sum(1), 1e-6)[:, None]
    return points


def _not_twice(points: np.ndarray) -> list[int]:
    """Numbers of points (N x 2) that are not beside an earlier one."""
    kept: list[int] = []
    for number, point in enumerate(points):
        if _distances(points[kept], point).min(initial=np.inf) > 0.8 * READING_RADIUS:
            kept.append(number)
    return kept


@dataclass
class Piece:
    """A connected part of a limb between discs: some of its pixels (N x 2), and pairs of places that explain it."""

    limb: int
    pixels: np.ndarray
    pairs: set[tuple[int, int]]


def find_pieces(limbs: np.ndarray, places: list[Places], layout: SkeletonLayout) -> list[Piece]:
    """Pieces of all limbs, as far as they are seen between discs.

    Args:
        limbs: How much a pixel looks like each limb, H x W x L.
        places: Discs that are seen.
        layout: What was drawn.

    Returns:
        The pieces.
    """
    winner = np.where(limbs.max(2) > 0.4, limbs.argmax(2) + 1, 0).astype(np.uint8)
    for of in places:  # the edge of a disc is as dark as a limb
        for x, y in of.points:
            cv2.circle(winner, (round(x), round(y)), READING_RADIUS + 1, 0, -1)
    pieces = []
    for limb, (one, other) in enumerate(layout.limbs):
        y, x = np.nonzero(winner == limb + 1)
        if not len(y):
            continue
        labels = cv2.connectedComponents((winner == limb + 1).astype(np.uint8))[1][y, x]
        order = np.argsort(labels, kind="stable")
        points = np.stack([x, y], -1)[order].astype(np.float64)
        starts, ends = places[one].points, places[other].points
        for pixels in np.split(points, np.flatnonzero(np.diff(labels[order])) + 1):
            if len(pixels) < 1.5 * READING_RADIUS:
                continue
            some = pixels[:: max(1, len(pixels) // 30)]
            off = _from_segments(some, starts[:, None], ends[None]).mean(-1)
            pairs = set(zip(*(axis.tolist() for axis in np.nonzero(off < 0.6 * READING_RADIUS)), strict=True))
            pieces.append(Piece(limb, some, pairs))
    return pieces


def suppose_discs(places: list[Places], pieces: list[Piece], layout: SkeletonLayout) -> None:
    """Add, in place, the joints at whose discs limbs end that are covered by other discs."""
    everything = np.concatenate([of.points for of in places])
    supposed: list[list[np.ndarray]] = [[] for _ in places]
    for piece in pieces:
        one, other = layout.limbs[piece.limb]
        for joint, end in ((one, other), (other, one)):
            for known in places[joint].points[: places[joint].supposed]:
                if _distances(piece.pixels, known).min() > 2.2 * READING_RADIUS:
                    continue
                along = piece.pixels.mean(0) - known
                along /= max(np.hypot(*along), 1e-6)
                across = np.array([-along[1], along[0]])
                if np.abs((piece.pixels - known) @ across).mean() > 0.6 * READING_RADIUS:
                    continue
                reached = ((piece.pixels - known) @ along).max()
                beside, ahead = np.abs((everything - known) @ across), (everything - known) @ along - reached
                covering = (beside < READING_RADIUS) & (ahead > 0) & (ahead < 2 * READING_RADIUS)
                if not covering.any():
                    continue
                place = known + (reached + ahead[covering].min()) * along
                if _distances(places[end].points, place).min(initial=np.inf) < 1.5 * READING_RADIUS:
                    continue
                if _distances(np.array(supposed[end]).reshape(-1, 2), place).min(initial=np.inf) > READING_RADIUS:
                    supposed[end].append(place)
    for of, points in zip(places, supposed, strict=True):
        _add_supposed(of, points)


def suppose_middles(places: list[Places], nothing: np.ndarray, layout: SkeletonLayout) -> None:
    """Add, in place, middles (necks) that other discs cover: of two joints between which nothing is dark."""
    if not layout.middle:
        return
    of = places[int(np.flatnonzero(layout.keypoint_of < 0)[0])]
    one, other = (places[int(layout.joint_of[keypoint])].points for keypoint in layout.middle)
    along = one[:, None, None] + (other[None] - one[:, None])[:, :, None] * np.linspace(0, 1, 24)[:, None]
    dark = (look_up(nothing, along) > 0.6).mean(-1)
    middles = [
        (one[i] + other[j]) / 2
        for i, j in zip(*np.nonzero(dark == 0), strict=True)
        if np.hypot(*(one[i] - other[j])) < 20 * READING_RADIUS
    ]
    around = READING_RADIUS * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], -1)
    _add_supposed(
        of,
        [
            middle
            for middle in middles
            if _distances(of.points, middle).min(initial=np.inf) > 0.6 * READING_RADIUS
            and (look_up(nothing, middle + around * 0.75) < 0.5).all()
        ],
    )


def _add_supposed(of: Places, points: list[np.ndarray]) -> None:
    of.points = np.concatenate([of.points, np.array(points).reshape(-1, 2)])
    of.scores = np.append(of.scores, [SCORE_SUPPOSED] * len(points))


def _distances(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    return np.hypot(*(points - point).T)


def _from_segments(points: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distances of points (N x 2) from straight lines between ``starts`` and ``ends`` (A x B x 2): A x B x N."""
    along = (ends - starts)[:, :, None]
    off = points - starts[:, :, None]
    part = np.clip((off * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-6), 0, 1)
    return np.hypot(*np.moveaxis(off - part[..., None] * along, -1, 0))
