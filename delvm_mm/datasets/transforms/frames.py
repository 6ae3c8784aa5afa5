"""Loading the frames of a video clip."""

import numpy as np

from delvm_mm.datasets.readers.io.image import MAX_PIXELS
from delvm_mm.datasets.transforms.base import BaseTransform
from delvm_mm.datasets.transforms.formatting import sample_name
from delvm_mm.datasets.transforms.images import LoadImage
from delvm_mm.registry import TRANSFORMS

__all__ = ["LoadFrames"]


@TRANSFORMS.register_module()
class LoadFrames(BaseTransform):
    """Read the image files of a clip: field ``frame_paths`` to field ``frames``, uint8 n x H x W x 3 RGB.

    Adds ``img_shape`` and ``ori_shape`` (H, W).

    Args:
        max_pixels: Larger frames are refused.
        min_side: Frames with a shorter side are refused. In pixels.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, min_side: int = 2) -> None:
        self._load = LoadImage(max_pixels=max_pixels, min_side=min_side)

    def transform(self, results: dict) -> dict:
        """Load the frames; errors name the file."""
        paths = results.get("frame_paths")
        if not paths:
            raise ValueError(
                f"LoadFrames needs a list of files in 'frame_paths' of {sample_name(results)}, which has "
                f"{sorted(results)}: use FrameFolderDataset, or LoadImage for single images"
            )
        frames = []
        for path in paths:
            frame = self._load.transform({"img_path": path})["img"]
            if frames and frame.shape != frames[0].shape:
                raise ValueError(
                    f"{path} is {frame.shape[1]}x{frame.shape[0]} (width x height), and the first frame of its clip, "
                    f"{paths[0]}, {frames[0].shape[1]}x{frames[0].shape[0]}: expected all frames of a video in one size"
                )
            frames.append(frame)
        results["frames"] = np.stack(frames)
        results["img_shape"] = results["ori_shape"] = frames[0].shape[:2]
        return results
