"""Annotations made of other annotations or read beside an image: depth maps, boxes around masks."""

import numpy as np

from delvm_mm.datasets.readers.io.label_map import read_values
from delvm_mm.datasets.transforms.base import BaseTransform
from delvm_mm.datasets.transforms.formatting import sample_name
from delvm_mm.registry import TRANSFORMS

__all__ = ["LoadDepth", "MaskToBox"]


@TRANSFORMS.register_module()
class LoadDepth(BaseTransform):
    """Read a depth map: field ``<key>_path`` to field ``gt_depth_map``, float32 H x W; 0 where it is not known.

    With ``PairedFolderDataset(input_dir='rgb', target_dir='depth')`` the key is 'gt_img'.

    Args:
        key: Whose path it is.
        scale: Values of the file in a unit of depth: 1000 for millimeters, 5000 for TUM's, 256 for KITTI's PNG.
    """

    def __init__(self, key: str = "gt_img", scale: float = 1000.0) -> None:
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not scale > 0:
            raise ValueError(f"LoadDepth: scale is {scale!r}, expected a number above 0")
        self.key, self.scale = key, scale

    def transform(self, results: dict) -> dict:
        """Load the map; errors name the file.

        Returns:
            ``results``, with ``gt_depth_map``.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no gray image, or not of the image's size.
        """
        if f"{self.key}_path" not in results:
            raise ValueError(f"LoadDepth needs '{self.key}_path' in the results, which have {sorted(results)}")
        path = results[f"{self.key}_path"]
        mode, values = read_values(path, "depth map", "the path and the data root of the dataset")
        if values.ndim != 2 or values.dtype.kind not in "iuf" or mode in ("P", "1"):
            raise ValueError(
                f"{path} has mode {mode}, expected a gray image of 8, 16 or 32 bits whose values are depths"
            )
        if "img" in results and values.shape != results["img"].shape[:2]:
            height, width = results["img"].shape[:2]
            raise ValueError(
                f"{path} has {values.shape[1]}x{values.shape[0]} pixels, its image {sample_name(results)} "
                f"{width}x{height}: save both at one size"
            )
        results["gt_depth_map"] = (values / self.scale).astype(np.float32)
        return results


@TRANSFORMS.register_module()
class MaskToBox(BaseTransform):
    """The box around the foreground of ``gt_seg_map`` as ``bbox``, float32 1 x 4, for ``BoxCodec``.

    Args:
        ignore_index: Value of the map that is no foreground.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Add the box.

        Returns:
            ``results``, with ``bbox``: x1, y1, x2, y2 in pixels, where 0 and W, H are the edges.

        Raises:
            ValueError: There is no map, or no foreground in it.
        """
        if results.get("gt_seg_map") is None:
            raise ValueError(f"MaskToBox needs 'gt_seg_map' in the results, which have {sorted(results)}")
        labels = results["gt_seg_map"]
        foreground = (labels != 0) & (labels != self.ignore_index)
        if not foreground.any():
            raise ValueError(f"the mask of {sample_name(results)} has no foreground, and so no box: leave it out")
        rows, columns = np.flatnonzero(foreground.any(1)), np.flatnonzero(foreground.any(0))
        results["bbox"] = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
        return results
