"""Body keypoints drawn as discs in colors that are far apart, for small images, and read back."""

import cv2
import numpy as np

from delvm_mm.codecs.skeletons.keypoints import KeypointCodec, check_numbers, inside
from delvm_mm.codecs.skeletons.openpose import NUM_KEYPOINTS
from delvm_mm.registry import TASK_UTILS

# Of COCO's 17 in their order. No two are nearer than 127, the edge of the smallest cubes.
COLORS = (
    (255, 255, 255), (255, 0, 255), (128, 0, 255), (255, 128, 255), (0, 0, 255), (255, 0, 0), (0, 255, 0),
    (255, 128, 0), (128, 255, 0), (255, 255, 0), (0, 255, 255), (255, 0, 128), (0, 255, 128), (255, 128, 128),
    (128, 255, 128), (255, 255, 128), (128, 255, 255),
)  # fmt: skip
# Each pixel is drawn as the mean of so many by so many.
SUBPIXELS = 2
# How far off a pixel may be from a color, in RGB: borders of discs are mixtures with black, and far from every color.
MOST_OFF = 85
# A keypoint is there where at least so much of a disc's area has its color.
LEAST_AREA = 0.06
MAX_MOVES = 30


@TASK_UTILS.register_module()
class KeypointDiscsCodec(KeypointCodec):
    """COCO-17 keypoints as discs on black, none hidden by another; one person is read back.

    For images that are too small for :class:`SkeletonCodec`, whose eyes and ears lie under each other there: keypoints
    that are nearer than ``spacing`` are pushed apart, and each pixel shows the nearest of the keypoints within
    ``radius``. Positions are rounded to the middles of squares of ``grid`` pixels, so that a tokenizer meets fewer
    different places. The colors are 17 corners and edges of the RGB cube. Annotation and prediction are those of
    :class:`KeypointCodec`; scores are the part of the disc that is seen, at most 1.

    Tolerance: over 150 drawn people of 0.4 to 0.95 of 96 px, with ``radius=5, spacing=5, grid=4`` every keypoint is
    read back within 0.2 of the longer side of the box; over random poses of that size 0.99, as after a blur (sigma
    1.5), JPEG of quality 50, noise (sigma 12) or at 0.85 of the brightness. Colors that are washed out by a third are
    taken for others: hue alone, as :class:`SkeletonCodec` reads it, does not tell 17 colors apart.

    Args:
        radius: of a disc in pixels, at least 1. An image is to be read with the radius that it was drawn with.
        spacing: least distance of two keypoints in pixels, as far as 30 moves reach; 0 to ``radius``.
        grid: side of the squares to whose middles positions are rounded, in pixels; 0 for no rounding.
        visible_thr: keypoints are drawn where their visibility is above this value. When read, a keypoint is visible
            where a disc is seen. In [0, 1).

    Raises:
        ValueError: if an argument is not a number or outside its range.

    Example:
        >>> import numpy as np
        >>> from delvm_mm.codecs import KeypointDiscsCodec
        >>> codec = KeypointDiscsCodec()
        >>> person = np.random.default_rng(0).uniform(10, 80, (1, 17, 2))
        >>> image = codec.encode(dict(keypoints=person, keypoints_visible=np.ones((1, 17)), img_shape=(96, 96)))
        >>> codec.decode(image)["keypoints"].shape
        (1, 17, 2)
    """

    palette = COLORS

    def __init__(self, radius: float = 5, spacing: float = 5, grid: float = 4, visible_thr: float = 0.3) -> None:
        check_numbers(radius=radius, spacing=spacing, grid=grid)
        if not 1 <= radius < np.inf:
            raise ValueError(f"radius is {radius}, expected at least 1 pixel")
        if not 0 <= spacing <= radius:
            raise ValueError(f"spacing is {spacing}, expected 0 to the radius, {radius}, in pixels")
        if not 0 <= grid <= 2 * radius:
            raise ValueError(f"grid is {grid}, expected 0 to twice the radius, {2 * radius}, in pixels")
        super().__init__(visible_thr)
        self.radius, self.spacing, self.grid = radius, spacing, grid

    def _draw_person(self, image: np.ndarray, keypoints: np.ndarray, visible: np.ndarray) -> None:
        shown = np.flatnonzero(visible & inside(keypoints, image.shape))
        if not len(shown):
            return
        places = _spread(keypoints[shown], self.spacing, image.shape)
        if self.grid:
            places = (_free_cells(places, self.grid) + 0.5) * self.grid - 0.5
        height, width = image.shape[:2]
        fine = [(np.arange(side * SUBPIXELS) + 0.5) / SUBPIXELS - 0.5 for side in (height, width)]
        covered = _squared_distances(places, *fine).min(0) <= self.radius**2
        covered = covered.reshape(height, SUBPIXELS, width, SUBPIXELS).mean((1, 3))[..., None]
        # borders are smooth, seams of two discs are sharp: a mixture of two colors may be a third one
        nearest = _squared_distances(places, np.arange(height), np.arange(width)).argmin(0)
        colors = np.array(COLORS, np.float32)[shown[nearest]]
        image[:] = np.rint(covered * colors + (1 - covered) * image)

    def _read_person(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        colors = np.array([self.background, *COLORS], np.float32)
        squared = ((image[:, :, None].astype(np.float32) - colors) ** 2).sum(-1)
        which = np.where(squared.min(-1) <= MOST_OFF**2, squared.argmin(-1), 0)
        points, scores = np.zeros((NUM_KEYPOINTS, 2)), np.zeros(NUM_KEYPOINTS)
        reach = int(np.ceil(self.radius))
        window = (2 * reach + 1, 2 * reach + 1)
        for keypoint in range(NUM_KEYPOINTS):
            own = (which == keypoint + 1).astype(np.float32)
            sums = cv2.boxFilter(own, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
            row, column = np.unravel_index(sums.argmax(), sums.shape)
            area = sums[row, column] / (np.pi * self.radius**2)
            if area < LEAST_AREA:
                continue
            top, left = max(0, row - reach), max(0, column - reach)
            rows, columns = np.nonzero(own[top : row + reach + 1, left : column + reach + 1])
            points[keypoint] = columns.mean() + left, rows.mean() + top
            scores[keypoint] = min(1.0, self.visible_thr + area)
        return points, scores


def _spread(points: np.ndarray, spacing: float, shape: tuple[int, ...]) -> np.ndarray:
    """Push points (N x 2, x and y) apart until none is nearer to another than ``spacing``, or 30 moves are made."""
    # Points at one place part in a direction that depends on their order alone.
    moved = points + np.arange(len(points))[:, None] * [0.013, 0.007]
    limit = np.array([shape[1] - 1, shape[0] - 1])
    for _ in range(MAX_MOVES):
        apart = moved[:, None] - moved[None]
        distance = np.hypot(apart[..., 0], apart[..., 1])
        np.fill_diagonal(distance, np.inf)
        if distance.min(initial=np.inf) >= spacing:
            break
        step = 0.3 * np.clip(spacing - distance, 0, None) / np.maximum(distance, 1e-3)
        moved = (moved + (step[..., None] * np.where(np.isfinite(distance)[..., None], apart, 0)).sum(1)).clip(0, limit)
    return moved


def _free_cells(points: np.ndarray, grid: float) -> np.ndarray:
    """Column and row of the cell of each point (N x 2, x and y), or of the nearest that no earlier point took."""
    around = np.stack(np.meshgrid(np.arange(-4, 5), np.arange(-4, 5)), -1).reshape(-1, 2)
    free: list[tuple[int, int]] = []
    for point in points:
        cells = np.floor((point + 0.5) / grid).astype(int) + around
        far = (((cells + 0.5) * grid - 0.5 - point) ** 2).sum(1)
        nearest_first = (tuple(cell) for cell in cells[np.argsort(far, kind="stable")].tolist())
        free.append(next(cell for cell in nearest_first if cell not in free))
    return np.array(free)


def _squared_distances(points: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of each of N points (x and y) to each place of a grid, N x len(y) x len(x)."""
    return (x - points[:, :1])[:, None] ** 2 + (y - points[:, 1:])[:, :, None] ** 2
