"""Reading one person back from an image of OpenPose-colored skeletons."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from delvm_mm.codecs.skeletons.openpose import JOINT_NAMES, LIMB_ENDS, NECK, NUM_JOINTS, NUM_LIMBS
from delvm_mm.codecs.skeletons.skeleton_layout import OPENPOSE

SUBPIXEL_BITS = 4  # positions are drawn to a sixteenth of a pixel
READING_RADIUS = 4  # an image is read at the scale where its discs have this radius, in pixels
_HUE_SIGMA = 14.0  # degrees; neighboring colors are 20 apart
_PEAKS = 4  # discs of its color that are considered for a joint
# No limb is longer than about this part of the person's height; in the order of LIMBS.
_LONGEST = (0.3, 0.3, 0.35, 0.35, 0.35, 0.35, 0.6, 0.45, 0.45, 0.6, 0.45, 0.45, 0.3, 0.12, 0.15, 0.12, 0.15)


def fixed_point(points: np.ndarray) -> np.ndarray:
    """Positions in the sub-pixel units in which OpenCV draws."""
    return np.round(points * 2**SUBPIXEL_BITS).astype(np.int32)


def ramp(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 below ``start``, 1 above ``end``, straight between."""
    return np.clip((values - start) / (end - start), 0, 1)


@lru_cache(maxsize=4)
def color_tables(
    joint_colors: tuple[tuple[int, int, int], ...], limb_colors: tuple[tuple[int, int, int], ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much a pixel looks like each joint's disc, each limb, and nothing, by its color in 5 bits a channel.

    Hue says which; brightness tells discs (1.0) from limbs (0.6) and from limbs that cross (0.84); saturation only
    says how far the hue can be trusted, because tokenizers wash colors out.

    Args:
        joint_colors: RGB of J joints.
        limb_colors: RGB of L limbs.

    Returns:
        float32 tables in [0, 1]: 32768 x J (discs), 32768 x L (limbs), 32768 (nothing).
    """
    levels = (np.arange(32, dtype=np.float32) * 8 + 4) / 260
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(1, -1, 3)
    hue, saturation, value = (channel.T for channel in cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)))

    def hue_match(colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
        wanted = cv2.cvtColor(np.float32([colors]) / 255, cv2.COLOR_RGB2HSV)[0, :, 0]
        distance = np.abs((hue - wanted + 180) % 360 - 180)
        match = np.exp(-0.5 * (distance / _HUE_SIGMA) ** 2)
        return match * match / match.max(1, keepdims=True)  # less where another color matches better

    colored = ramp(saturation * value, 0.1, 0.3)
    discs = hue_match(joint_colors) * colored * ramp(value, 0.5, 0.8)
    limbs = hue_match(limb_colors) * colored * ramp(value, 0.15, 0.35)
    limbs = limbs * (1 - 0.85 * ramp(value, 0.66, 0.8))
    nothing = 1 - ramp(value[:, 0], 0.1, 0.3)
    return discs.astype(np.float32), limbs.astype(np.float32), nothing.astype(np.float32)


def read_person(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the best skeleton in an image whose discs have radius ``READING_RADIUS``.

    Returns:
        Points (18 x 2, x and y) and scores (18, in 0..1) of the joints, in the order of ``JOINTS``.
    """
    height, width = image.shape[:2]
    value = image.max(2)
    lit = value > 48
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    if not len(rows):
        return np.full((NUM_JOINTS, 2), [(width - 1) / 2, (height - 1) / 2]), np.zeros(NUM_JOINTS)
    margin = 2 * READING_RADIUS
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    crop = image[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]
    code = color_codes(crop, value[lit])
    discs, limbs, nothing = (table[code] for table in color_tables(OPENPOSE.colors, OPENPOSE.limb_colors))

    response = _disc_mean(discs)
    strong, strength = _disc_peaks(discs, response)
    rival = look_up(response.max(2), np.nan_to_num(strong))
    hidden = _behind_later_discs(strong, (strength > 0.5) & (strength > 0.9 * rival), discs.shape)
    # Hidden pixels say nothing; the others speak for a joint's disc if they have its color and against it if not.
    fit, free = _disc_mean((1 - hidden) * (1.6 * discs - 0.6)), _disc_mean(1 - hidden)
    peaks, _ = _disc_peaks(discs * (1 - hidden), fit)
    tips = _limb_tips(limbs)
    candidates, unary = [], []
    for joint in range(NUM_JOINTS):
        own_tips = tips[np.isin(LIMB_ENDS, joint).any(1)].reshape(-1, 2)
        places = np.concatenate([peaks[joint], own_tips, strong[joint + 1 :, 0]])  # later discs are drawn over it
        places = places[~np.isnan(places[:, 0])]
        part_free = look_up(free[..., joint], places)
        score = look_up(fit[..., joint], places) / (part_free + 0.2) - 0.3 * (1 - part_free)
        candidates.append(places)
        unary.append(np.where(score < 0, (1 + part_free) * score, score))

    evidence = cv2.dilate(limbs, np.ones((3, 3), np.uint8)) - 1.2 * nothing[..., None]
    reach = max(lit.any(0).sum(), lit.any(1).sum())
    pairs = [
        limb_support(evidence[..., i], limbs[..., i], candidates[parent], candidates[child], _LONGEST[i] * reach)
        for i, (parent, child) in enumerate(LIMB_ENDS)
    ]
    chosen = _best_tree(unary, pairs)
    if _set_back_strangers(chosen, candidates, unary):
        chosen = _best_tree(unary, pairs)
    found = chosen >= 0
    points, scores = np.full((NUM_JOINTS, 2), np.nan), np.zeros(NUM_JOINTS)
    for joint in np.flatnonzero(found):
        points[joint] = candidates[joint][chosen[joint]]
        scores[joint] = np.clip(unary[joint][chosen[joint]] / 0.6, 0, 1)
    for pair, ends in zip(pairs, LIMB_ENDS, strict=True):
        if found[ends].all():
            scores[ends] = np.maximum(scores[ends], 0.5 * np.clip(pair[tuple(chosen[ends])], 0, 1))
    middle = np.array([crop.shape[1] - 1, crop.shape[0] - 1]) / 2
    return _guess_missing(points, middle) + np.array([left, top]), scores


def color_codes(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows of :func:`color_tables` for each pixel, H x W.

    Args:
        image: RGB, uint8, H x W x 3.
        values: Brightness of the pixels that are drawn on.

    Returns:
        int32, H x W.
    """
    # the brightest parts, the discs, are drawn with full brightness; tokenizers darken them
    gain = 255 / max(np.percentile(values, 98), 128)
    levels = cv2.convertScaleAbs(cv2.GaussianBlur(image, (3, 3), 0), alpha=gain).astype(np.int32) >> 3
    return levels[..., 0] << 10 | levels[..., 1] << 5 | levels[..., 2]


def _disc_mean(maps: np.ndarray) -> np.ndarray:
    """Mean over about the area of a disc around every pixel, by channel: H x W x 18."""
    small = cv2.blur(maps, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return cv2.blur(small, (5, 5), borderType=cv2.BORDER_REPLICATE)


def look_up(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values (H x W) at the pixels nearest to points (... x 2); points outside are read at the border."""
    pixels = (points + 0.5).astype(np.int32)
    x = np.clip(pixels[..., 0], 0, values.shape[1] - 1)
    y = np.clip(pixels[..., 1], 0, values.shape[0] - 1)
    return values[y, x]


def _disc_peaks(discs: np.ndarray, response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the strongest discs of each joint's color (18 x P x 2, NaN where none), their response (18 x P)."""
    height, width = response.shape[:2]
    y, x, joint = np.nonzero((response >= cv2.dilate(response, np.ones((5, 5), np.uint8))) & (response > 0.15))
    order = np.lexsort((-response[y, x, joint], joint))
    y, x, joint = y[order], x[order], joint[order]
    rank = np.arange(len(joint)) - np.searchsorted(joint, joint)
    y, x, joint, rank = (array[rank < _PEAKS] for array in (y, x, joint, rank))
    points = np.stack([x, y], -1).astype(np.float64)
    strength = np.zeros((NUM_JOINTS, _PEAKS))
    strength[joint, rank] = response[y, x, joint]
    reach = np.arange(-READING_RADIUS, READING_RADIUS + 1)
    dy, dx = (grid.ravel() for grid in np.meshgrid(reach, reach, indexing="ij"))
    for _ in range(2):  # mean shift: toward the middle of the pixels of that color
        xs, ys = np.round(points[:, :1]).astype(int) + dx, np.round(points[:, 1:]).astype(int) + dy
        weight = discs[ys.clip(0, height - 1), xs.clip(0, width - 1), joint[:, None]]
        weight = weight * ((xs >= 0) & (xs < width) & (ys >= 0) & (ys < height)) + 1e-6
        points = np.stack([(weight * xs).sum(1), (weight * ys).sum(1)], -1) / weight.sum(1, keepdims=True)
    middles = np.full((NUM_JOINTS, _PEAKS, 2), np.nan)
    middles[joint, rank] = points
    return middles, strength


def _behind_later_discs(points: np.ndarray, strong: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """1 where one of the ``strong`` discs of a joint that is drawn later covers the pixel: H x W x 18."""
    hidden = np.zeros(shape, np.float32)
    layer = np.zeros(shape[:2], np.float32)
    radius = round((READING_RADIUS + 0.7) * 2**SUBPIXEL_BITS)  # with the blended edge
    for joint in range(NUM_JOINTS - 1, 0, -1):
        for point in points[joint][strong[joint]]:
            cv2.circle(layer, fixed_point(point).tolist(), radius, 1, -1, cv2.LINE_8, SUBPIXEL_BITS)
        hidden[..., joint - 1] = layer
    return hidden


def _limb_tips(limbs: np.ndarray) -> np.ndarray:
    """Both tips of all and of the largest piece of every limb's color: 17 x 4 x 2, NaN where there is none."""
    winner = np.where(limbs.max(2) > 0.4, limbs.argmax(2), -1)
    tips = np.full((NUM_LIMBS, 4, 2), np.nan)
    for limb in range(NUM_LIMBS):
        mask = winner == limb
        y, x = np.nonzero(mask)
        if len(y) < 6:
            continue
        points = np.stack([x, y], -1).astype(np.float64)
        labels = cv2.connectedComponents(mask.astype(np.uint8))[1][y, x]
        largest = points[labels == np.bincount(labels).argmax()]
        tips[limb, :2] = _ends_of(points)
        tips[limb, 2:] = _ends_of(largest) if len(largest) >= 6 else np.nan
    return tips


def _ends_of(points: np.ndarray) -> np.ndarray:
    """The two ends (2 x 2) of a long cloud of points (N x 2), on its main axis."""
    middle = points.mean(0)
    axis = np.linalg.eigh(np.cov(points.T))[1][:, 1]
    along = (points - middle) @ axis
    return middle + np.array([[along.min()], [along.max()]]) * axis


def limb_support(
    evidence: np.ndarray, limb: np.ndarray, parents: np.ndarray, children: np.ndarray, longest: float
) -> np.ndarray:
    """How well the image shows one limb between each parent (A x 2) and each child (B x 2): A x B, about -2 to 1.

    Args:
        evidence: For the limb (above 0) or against it, H x W.
        limb: How much a pixel looks like it, H x W.
        parents: A x 2, x and y.
        children: B x 2, x and y.
        longest: In pixels; longer ones count less.

    Returns:
        A x B.
    """
    start, end = parents[:, None, None], children[None, :, None]
    length = np.sqrt(((end - start) ** 2).sum(-1))
    unit = (end - start) / np.maximum(length, 1e-6)[..., None]
    between = np.maximum(length - 2 * READING_RADIUS, 0)
    # from disc to disc; the worse half counts twice, because a wrong limb may follow a right one for a while
    seen = np.sort(look_up(evidence, start + unit * (READING_RADIUS + np.linspace(0, 1, 12) * between)[..., None]))
    support = 0.5 * (seen.mean(-1) + seen[..., :6].mean(-1)) * np.minimum(1, between[..., 0] / 8)
    # where the limb goes on behind an end, the end is elsewhere
    ahead = unit * (np.array([1.5, 2.0, 2.5]) * READING_RADIUS)[:, None]
    beyond = look_up(limb, end + ahead).mean(-1) + look_up(limb, start - ahead).mean(-1)
    relative = length[..., 0] / longest
    return support - 0.3 * beyond - 1.2 * ramp(relative, 1, 2) - 0.1 * relative


def _best_tree(unary: list[np.ndarray], pairs: list[np.ndarray]) -> np.ndarray:
    """Choose one candidate, or -1 for none, per joint (18): the exact maximum of the summed scores over the tree."""
    total = [np.append(scores, 0.0) for scores in unary]
    best_child = [np.zeros(0, int)] * NUM_LIMBS
    for limb in reversed(range(NUM_LIMBS)):
        parent, child = LIMB_ENDS[limb]
        score = np.pad(pairs[limb], ((0, 1), (0, 1))) + total[child]
        best_child[limb] = score.argmax(1)
        total[parent] = total[parent] + score.max(1)
    chosen = np.zeros(NUM_JOINTS, int)
    chosen[NECK] = total[NECK].argmax()
    for limb, (parent, child) in enumerate(LIMB_ENDS):
        chosen[child] = best_child[limb][chosen[parent]]
    return np.where(chosen == [len(scores) for scores in unary], -1, chosen)


def _set_back_strangers(chosen: np.ndarray, candidates: list[np.ndarray], unary: list[np.ndarray]) -> bool:
    """Take other people's discs out of the choice, in place: what is far from the largest connected part.

    Returns:
        Whether a chosen candidate was among them, so that the choice has to be made again.
    """
    part = np.arange(NUM_JOINTS)
    for parent, child in LIMB_ENDS:
        if chosen[parent] >= 0 and chosen[child] >= 0:
            part[child] = part[parent]
    found = np.flatnonzero(chosen >= 0)
    if not len(found):
        return False
    members = found[part[found] == np.bincount(part[found]).argmax()]
    if len(members) < NUM_JOINTS // 2:  # too little of the person to tell where it ends
        return False
    points = np.stack([candidates[joint][chosen[joint]] for joint in members])
    low, high = points.min(0), points.max(0)
    around = 0.4 * (high - low).max() + 2 * READING_RADIUS
    again = False
    for joint in range(NUM_JOINTS):
        far = ((candidates[joint] < low - around) | (candidates[joint] > high + around)).any(1)
        unary[joint][far] -= 4
        again |= bool(chosen[joint] >= 0 and far[chosen[joint]])
    return again


# Where a joint that was not found may hide, first choice first: at the middle of the joints named.
_HIDING = {
    "nose": ("left_eye right_eye", "left_ear right_ear", "left_eye", "right_eye", "left_ear", "right_ear"),
    "neck": ("left_shoulder right_shoulder",),
    "shoulder": ("neck", "other_shoulder", "elbow"),
    "elbow": ("shoulder wrist", "shoulder", "wrist"),
    "wrist": ("elbow",),
    "hip": ("other_hip", "knee"),
    "knee": ("hip ankle", "other_knee", "ankle"),
    "ankle": ("other_ankle", "knee"),
    "eye": ("nose ear", "nose", "other_eye", "ear"),
    "ear": ("eye", "other_ear", "nose"),
}


def _guess_missing(points: np.ndarray, default: np.ndarray) -> np.ndarray:
    """Replace NaN among the points (18 x 2) by what ``_HIDING`` says, or else their mean, or else ``default``."""
    points = points.copy()
    for _ in range(3):  # a guess may rest on a guess
        for joint in np.flatnonzero(np.isnan(points[:, 0])):
            side, _, part = JOINT_NAMES[joint].rpartition("_")
            for names in _HIDING[part]:
                guess = points[[_joint_near(name, side) for name in names.split()]].mean(0)
                if not np.isnan(guess[0]):
                    points[joint] = guess
                    break
    known = ~np.isnan(points[:, 0])
    points[~known] = points[known].mean(0) if known.any() else default
    return points


def _joint_near(name: str, side: str) -> int:
    if name.startswith("other_"):
        name, side = name.removeprefix("other_"), "left" if side == "right" else "right"
    return JOINT_NAMES.index(name if name in JOINT_NAMES else f"{side}_{name}")
