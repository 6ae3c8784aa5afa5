"""Cut an image into overlapping tiles, which are answered one by one and put together again for the score."""

from delvm_mm.codecs.mapping import TILE_KEY
from delvm_mm.datasets.transforms.base import BaseTransform
from delvm_mm.datasets.transforms.formatting import sample_name
from delvm_mm.datasets.transforms.geometry import crop, image_shape
from delvm_mm.registry import TRANSFORMS

__all__ = ["CropTile"]


@TRANSFORMS.register_module()
class CropTile(BaseTransform):
    """Cut out one of the tiles of a grid over the whole image: the one with the number of the sample's ``view``.

    The reader has as many views of each image as there are tiles, ``num_views=rows * columns``, and what was read from
    them is put together by ``VisionPromptEvaluator(original=True)``, which wants all of them. Adds ``tile``, a dict of
    ``number``, ``count`` and ``box`` (left, top, right, lower; the latter two exclusive), and ``crop_offset`` (x, y).

    Args:
        grid: Rows and columns.
        overlap: Part of a tile's side that the next one shows too, in [0, 1).

    Example:
        >>> CropTile(grid=(2, 2), overlap=0.2).box(1, height=90, width=180)
        (80, 0, 180, 50)
    """

    def __init__(self, grid: tuple[int, int] = (2, 2), overlap: float = 0.2) -> None:
        if len(grid) != 2 or min(grid) < 1:
            raise ValueError(f"CropTile: grid is {grid}, expected rows and columns, at least 1")
        if not 0 <= overlap < 1:
            raise ValueError(f"CropTile: overlap is {overlap}, expected a part of a tile's side in [0, 1)")
        self.rows, self.columns = grid
        self.overlap = overlap

    def box(self, number: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Left, top, right and lower edge of a tile, row by row, the latter two exclusive."""
        row, column = divmod(number, self.columns)
        (top, lower), (left, right) = self._part(row, self.rows, height), self._part(column, self.columns, width)
        return left, top, right, lower

    def transform(self, results: dict) -> dict:
        """Crop every field that is there.

        Returns:
            ``results``, changed.

        Raises:
            ValueError: The sample has no view with the number of a tile, or its image was moved already.
        """
        height, width = image_shape(results, "CropTile")
        count = self.rows * self.columns
        if not 0 <= results.get("view", -1) < count:
            raise ValueError(
                f"CropTile: {sample_name(results)} is view {results.get('view')!r} of its image, expected 0 to "
                f"{count - 1}, a view for each tile: give the reader num_views={count}"
            )
        if "affine" in results:
            raise ValueError(
                f"CropTile comes after a transform that moved the image of {sample_name(results)}: put it before"
            )
        left, top, right, lower = box = self.box(results["view"], height, width)
        crop(results, top, left, lower - top, right - left)
        results[TILE_KEY] = dict(number=results["view"], count=count, box=box)
        results["crop_offset"] = (left, top)
        return results

    def _part(self, number: int, count: int, length: int) -> tuple[int, int]:
        side = length / (count - (count - 1) * self.overlap)
        start = number * side * (1 - self.overlap)
        first, end = round(start), length if number == count - 1 else round(start + side)
        return first, max(end, first + 1)
