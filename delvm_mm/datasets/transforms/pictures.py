"""Transforms of pictures and of what is annotated on them: load, resize, crop, draw the label.

They work on the fields ``img``, ``gt_img``, ``gt_seg_map``, ``keypoints`` / ``keypoints_visible``, ``bbox`` and
``head_size`` together, whichever are there. mmcv's transforms of these names know other field names and place keypoints
by whole pixels of the old picture; here they follow the picture to a fraction of a pixel.
"""

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from delvm_mm.registry import TASK_UTILS, TRANSFORMS

from ..image_io import MAX_PIXELS, read_picture
from .formatting import sample_name

__all__ = ["CenterCrop", "DrawLabel", "LoadPicture", "ResizeShortSide"]

_PICTURES = ("img", "gt_img")


@TRANSFORMS.register_module()
class LoadPicture(BaseTransform):
    """Read a picture file: field ``<key>_path`` to field ``<key>``, uint8 H×W×3 RGB.

    Where the results have ``<key>_bytes``, that is the file, and the path is its name.

    For ``img``, ``img_shape`` and ``ori_shape`` (H, W) are added.

    Args:
        key: 'img', or 'gt_img' for the clean picture of restoration tasks.
        max_pixels: Larger pictures are refused.
        min_side: Pictures with a shorter side are refused: they show nothing. In pixels.
    """

    def __init__(self, key: str = "img", max_pixels: int = MAX_PIXELS, min_side: int = 2) -> None:
        self.key = key
        self.max_pixels = max_pixels
        self.min_side = min_side

    def transform(self, results: dict) -> dict:
        """Load the picture; errors name the file."""
        path_key = f"{self.key}_path"
        if path_key not in results:
            raise ValueError(f"LoadPicture needs {path_key!r} in the results, which have {sorted(results)}")
        picture = read_picture(results[path_key], self.max_pixels, content=results.pop(f"{self.key}_bytes", None))
        if min(picture.shape[:2]) < self.min_side:
            raise ValueError(
                f"{results[path_key]} has {picture.shape[1]}x{picture.shape[0]} pixels, expected at least "
                f"{self.min_side} each way: remove it, or lower min_side of LoadPicture"
            )
        results[self.key] = picture
        if self.key == "img":
            results["img_shape"] = results["ori_shape"] = picture.shape[:2]
        return results


@TRANSFORMS.register_module()
class ResizeShortSide(BaseTransform):
    """Resize so that the short side has ``size`` pixels, keeping the aspect ratio.

    Pictures bilinear with antialiasing (Pillow's, which torchvision's ``Resize`` uses on PIL pictures, as published),
    masks nearest. Adds ``scale_factor`` (w, h).

    Args:
        size: Length of the short side in pixels.
    """

    def __init__(self, size: int = 256) -> None:
        if size < 1:
            raise ValueError(f"ResizeShortSide: size must be at least 1, got {size}")
        self.size = size

    def transform(self, results: dict) -> dict:
        """Resize every field that is there."""
        height, width = _common_shape(results, "ResizeShortSide")
        short = min(height, width)
        # The long side is rounded down, as torchvision does.
        new_height, new_width = int(self.size * height / short), int(self.size * width / short)
        scale = np.array([new_width / width, new_height / height])
        if (new_height, new_width) != (height, width):
            for key in _present(results, _PICTURES):
                results[key] = _resize_bilinear(results[key], new_width, new_height)
            for key in _present(results, ("gt_seg_map",)):
                results[key] = _resize_nearest(results[key], new_width, new_height)
            for key in _present(results, ("keypoints",)):
                # Whole numbers are pixel centres, half a pixel from the border that the resizing keeps fixed.
                results[key] = ((results[key] + 0.5) * scale - 0.5).astype(np.float32)
            for key in _present(results, ("bbox",)):
                results[key] = (results[key] * np.tile(scale, 2)).astype(np.float32)
            for key in _present(results, ("head_size",)):
                results[key] = results[key] * scale.mean()
        results["img_shape"] = (new_height, new_width)
        results["scale_factor"] = tuple(scale.tolist())
        return results


@TRANSFORMS.register_module()
class CenterCrop(BaseTransform):
    """Cut out the centre.

    Keypoints outside get ``keypoints_visible`` 0. Boxes are moved and not clipped: metrics take the size of a person
    from them, also when part of the person was cut off. Adds ``crop_offset`` (x, y).

    Args:
        size: Side in pixels, or (height, width).
    """

    def __init__(self, size: int | tuple[int, int] = 256) -> None:
        self.height, self.width = (size, size) if isinstance(size, int) else size
        if self.height < 1 or self.width < 1:
            raise ValueError(f"CenterCrop: size must be at least 1, got {size}")

    def transform(self, results: dict) -> dict:
        """Crop every field that is there."""
        height, width = _common_shape(results, "CenterCrop")
        if height < self.height or width < self.width:
            raise ValueError(
                f"CenterCrop to {self.height}x{self.width} (height x width) got {sample_name(results)} with "
                f"{height}x{width}: put ResizeShortSide before it"
            )
        # Rounded as torchvision does.
        top, left = round((height - self.height) / 2), round((width - self.width) / 2)
        for key in _present(results, (*_PICTURES, "gt_seg_map")):
            results[key] = np.ascontiguousarray(results[key][top : top + self.height, left : left + self.width])
        for key in _present(results, ("keypoints",)):
            points = (results[key] - np.array([left, top])).astype(np.float32)
            # Pixel 0 reaches from -0.5 to 0.5.
            inside = ((points >= -0.5) & (points < np.array([self.width, self.height]) - 0.5)).all(-1)
            results[key] = points
            if "keypoints_visible" in results:
                visible = np.asarray(results["keypoints_visible"])
                results["keypoints_visible"] = np.where(inside, visible, 0).astype(visible.dtype)
        for key in _present(results, ("bbox",)):
            results[key] = (results[key] - np.array([left, top, left, top])).astype(np.float32)
        results["img_shape"] = (self.height, self.width)
        results["crop_offset"] = (left, top)
        return results


@TRANSFORMS.register_module()
class DrawLabel(BaseTransform):
    """Draw the annotation as a picture: adds ``label`` (uint8 H×W×3) and ``annotation`` (as the codec defines it).

    Last of the geometric transforms: a drawing that is resized or flipped afterwards is not what the codec reads.

    Args:
        codec: A label codec or its config, e.g. ``dict(type='SkeletonCodec')``.
    """

    def __init__(self, codec: dict | object) -> None:
        self.codec = TASK_UTILS.build(codec) if isinstance(codec, dict) else codec

    def transform(self, results: dict) -> dict:
        """Draw the label."""
        annotation = self.codec.annotation_of(results)
        label = self.codec.encode(annotation)
        if "img" in results and label.shape != results["img"].shape:
            raise ValueError(
                f"{type(self.codec).__name__} drew a label of shape {label.shape} for {sample_name(results)}, whose "
                f"picture has shape {results['img'].shape}: every transform must move the annotation too"
            )
        results["annotation"] = annotation
        results["label"] = label
        return results


def _present(results: dict, keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if results.get(key) is not None]


def _common_shape(results: dict, owner: str) -> tuple[int, int]:
    """Height and width of the pictures and masks, which have to agree."""
    shapes = {key: results[key].shape[:2] for key in _present(results, (*_PICTURES, "gt_seg_map"))}
    if not shapes:
        raise ValueError(f"{owner} needs 'img' in the results, which have {sorted(results)}: load it before")
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{owner}: the fields of {sample_name(results)} differ in height x width: {shapes}")
    return next(iter(shapes.values()))


def _resize_bilinear(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def _resize_nearest(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    """Values under the centres of the new pixels; any type, where Pillow and OpenCV know only some."""
    rows = (np.arange(height) + 0.5) * mask.shape[0] / height
    columns = (np.arange(width) + 0.5) * mask.shape[1] / width
    return mask[rows.astype(int)[:, None], columns.astype(int)]
