"""Colors that stand for something: the nearest of them at each pixel, and regions that are only borders or specks."""

from collections.abc import Sequence

import cv2
import numpy as np

__all__ = ["NearestColor"]

_LUT_BITS = 5  # of a channel: cells of the table are 8 values wide


class NearestColor:
    """Reads which color of a palette a pixel has, where a tokenizer changed it.

    Args:
        palette: RGB, each channel 0..255, all different.
        min_area: Smallest region that is kept, in pixels.
    """

    def __init__(self, palette: Sequence[tuple[int, int, int]], min_area: int) -> None:
        self.colors = np.array(palette, np.uint8)
        self.min_area = min_area
        self._nearest: np.ndarray | None = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Number of the palette's color at each pixel.

        Unless that is every pixel's color to the point, regions with no interior (no pixel whose eight neighbors have
        the same color) or fewer than ``min_area`` pixels are specks, or the mixed colors along a border: their pixels
        go to the nearest other region.

        Args:
            image: RGB, uint8, H x W x 3.

        Returns:
            intp, H x W; 0 everywhere where no region is kept.
        """
        # A table of cells is exact for all colors but those in the middle between two.
        known = self._of_clean_drawing(image)
        return self._without_specks(self._of_cells(image)) if known is None else known

    def closest(self) -> tuple[float, int, int]:
        """Distance in RGB and numbers of the two colors that are nearest to each other."""
        palette = self.colors.astype(float)
        distances = np.linalg.norm(palette[:, None] - palette, axis=-1) + 999 * np.eye(len(palette))
        one, other = np.unravel_index(distances.argmin(), distances.shape)
        return float(distances.min()), int(one), int(other)

    def _of_clean_drawing(self, image: np.ndarray) -> np.ndarray | None:
        codes = self.colors.astype(np.int32) @ [1 << 16, 1 << 8, 1]
        order = np.argsort(codes)
        pixels = image.astype(np.int32) @ [1 << 16, 1 << 8, 1]
        places = np.searchsorted(codes[order], pixels).clip(max=len(codes) - 1)
        numbers = order[places]
        return numbers if np.array_equal(codes[numbers], pixels) else None

    def _of_cells(self, image: np.ndarray) -> np.ndarray:
        if self._nearest is None:
            centers = (np.arange(2**_LUT_BITS) + 0.5) * 2 ** (8 - _LUT_BITS) - 0.5
            cells = np.stack(np.meshgrid(centers, centers, centers, indexing="ij"), -1).reshape(-1, 1, 3)
            distances = [((cells - color) ** 2).sum(-1)[:, 0] for color in self.colors.astype(float)]
            self._nearest = np.argmin(distances, 0)
        red, green, blue = np.moveaxis(image >> (8 - _LUT_BITS), -1, 0).astype(np.intp)
        return self._nearest[(red << 2 * _LUT_BITS) | (green << _LUT_BITS) | blue]

    def _without_specks(self, colors: np.ndarray) -> np.ndarray:
        """Give the pixels of regions that stand for nothing to the nearest region that does."""
        from skimage.measure import label as label_regions  # takes a moment, and clean drawings do without

        regions = label_regions(colors, background=-1, connectivity=1) - 1
        count = int(regions.max()) + 1
        areas = np.bincount(regions.ravel(), minlength=count)
        small, window = colors.astype(np.uint16), np.ones((3, 3), np.uint8)
        inside = cv2.erode(small, window) == cv2.dilate(small, window)
        interior = np.bincount(regions.ravel(), weights=inside.ravel(), minlength=count)
        kept = ((interior > 0) & (areas >= self.min_area))[regions]
        if not kept.any():
            return np.zeros_like(colors)
        _, nearest = cv2.distanceTransformWithLabels(
            (~kept).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        source = np.zeros(int(nearest.max()) + 1, np.intp)
        source[nearest[kept]] = colors[kept]
        return source[nearest]
