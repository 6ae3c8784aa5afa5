"""Deterministic transforms: load an image, resize it, crop it, draw the label.

Those that move pixels move everything that is annotated on them too, see ``geometry.py``. mmcv's transforms of these
names know other field names and place keypoints by whole pixels of the old image; here they follow the image to a
fraction of a pixel.
"""

import numpy as np

from delvm_mm.codecs.squashed import squash
from delvm_mm.datasets.readers.io.image import MAX_PIXELS, read_image
from delvm_mm.datasets.transforms.base import BaseTransform
from delvm_mm.datasets.transforms.formatting import CHANNEL_ORDER, require_rgb, sample_name
from delvm_mm.datasets.transforms.geometry import crop, height_and_width, image_shape, resize, shape_to_crop
from delvm_mm.registry import TASK_UTILS, TRANSFORMS

__all__ = ["CenterCrop", "DrawLabel", "KeepAnnotation", "Letterbox", "LoadImage", "ResizeShortSide", "Squash"]


# The second name is that of configs written for 0.1.
@TRANSFORMS.register_module(name=["LoadImage", "LoadPicture"])
class LoadImage(BaseTransform):
    """Read an image file: field ``<key>_path`` to field ``<key>``, uint8 H x W x 3 RGB.

    Where the results have ``<key>_bytes``, that is the file, and the path is its name.

    For ``img``, ``img_shape`` and ``ori_shape`` (H, W) are added, and ``img_channel_order``, 'rgb'.

    Args:
        key: 'img', or 'gt_img' for the clean image of restoration tasks.
        max_pixels: Larger images are refused.
        min_side: Images with a shorter side are refused: they show nothing. In pixels.
    """

    def __init__(self, key: str = "img", max_pixels: int = MAX_PIXELS, min_side: int = 2) -> None:
        self.key = key
        self.max_pixels = max_pixels
        self.min_side = min_side

    def transform(self, results: dict) -> dict:
        """Load the image; errors name the file."""
        path_key = f"{self.key}_path"
        if path_key not in results:
            raise ValueError(f"LoadImage needs {path_key!r} in the results, which have {sorted(results)}")
        image = read_image(results[path_key], self.max_pixels, content=results.pop(f"{self.key}_bytes", None))
        if min(image.shape[:2]) < self.min_side:
            raise ValueError(
                f"{results[path_key]} has {image.shape[1]}x{image.shape[0]} pixels, expected at least "
                f"{self.min_side} each way: remove it, or lower min_side of LoadImage"
            )
        results[self.key] = image
        if self.key == "img":
            results["img_shape"] = results["ori_shape"] = image.shape[:2]
            results[CHANNEL_ORDER] = "rgb"
        return results


@TRANSFORMS.register_module()
class ResizeShortSide(BaseTransform):
    """Resize so that the short side has ``size`` pixels, keeping the aspect ratio.

    Images bilinear with antialiasing, as published, maps nearest. Adds ``scale_factor`` (w, h).

    Args:
        size: Length of the short side in pixels.
    """

    def __init__(self, size: int = 256) -> None:
        if size < 1:
            raise ValueError(f"ResizeShortSide: size must be at least 1, got {size}")
        self.size = size

    def transform(self, results: dict) -> dict:
        """Resize every field that is there."""
        height, width = image_shape(results, "ResizeShortSide")
        short = min(height, width)
        # The long side is rounded down, as torchvision does.
        new_height, new_width = int(self.size * height / short), int(self.size * width / short)
        if new_height * new_width > MAX_PIXELS:
            raise ValueError(
                f"{sample_name(results)} has {width}x{height} pixels; with a short side of {self.size} it would have "
                f"{new_width}x{new_height}, more than {MAX_PIXELS} in all: crop it first, or leave it out"
            )
        resize(results, new_height, new_width)
        results["scale_factor"] = (new_width / width, new_height / height)
        return results


@TRANSFORMS.register_module()
class CenterCrop(BaseTransform):
    """Cut out the center.

    Keypoints outside get ``keypoints_visible`` 0. Boxes are moved and not clipped: metrics take the size of a person
    from them, also when part of the person was cut off. Adds ``crop_offset`` (x, y).

    Args:
        size: Side in pixels, or (height, width).
    """

    def __init__(self, size: int | tuple[int, int] = 256) -> None:
        self.height, self.width = height_and_width(size, "CenterCrop")

    def transform(self, results: dict) -> dict:
        """Crop every field that is there."""
        height, width = shape_to_crop(results, self.height, self.width, "CenterCrop")
        # Rounded as torchvision does.
        top, left = round((height - self.height) / 2), round((width - self.width) / 2)
        crop(results, top, left, self.height, self.width)
        results["crop_offset"] = (left, top)
        return results


@TRANSFORMS.register_module()
class Letterbox(BaseTransform):
    """Resize the long side to ``size`` and pad the rest, so that all of the image is seen.

    The image is in the middle, black is around it; maps have ``ignore_index`` there, which scores leave out. Adds
    ``scale_factor`` (w, h) and ``crop_offset`` (x, y), which is negative where there is padding.

    Args:
        size: Side of the square in pixels.
        ignore_index: Value of ``gt_seg_map`` around the image.
    """

    def __init__(self, size: int = 256, ignore_index: int = 255) -> None:
        if size < 1:
            raise ValueError(f"Letterbox: size must be at least 1, got {size}")
        self.size = size
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Resize and pad every field that is there."""
        height, width = image_shape(results, "Letterbox")
        scale = self.size / max(height, width)
        new_height, new_width = (max(1, round(side * scale)) for side in (height, width))
        resize(results, new_height, new_width)
        top, left = (self.size - new_height) // 2, (self.size - new_width) // 2
        crop(results, -top, -left, self.size, self.size)
        if results.get("gt_seg_map") is not None:
            around = np.ones((self.size, self.size), bool)
            around[top : top + new_height, left : left + new_width] = False
            labels = results["gt_seg_map"]
            labels = labels.astype(np.uint8) if labels.dtype == bool else labels
            results["gt_seg_map"] = np.where(around, labels.dtype.type(self.ignore_index), labels)
        results["scale_factor"] = (new_width / width, new_height / height)
        results["crop_offset"] = (-left, -top)
        return results


@TRANSFORMS.register_module()
class KeepAnnotation(BaseTransform):
    """Keep the annotation as it is now as ``ori_annotation``, for scores in pixels of the original image.

    To be put behind what loads image and annotation, before the first geometric transform;
    ``VisionPromptEvaluator(original=True)`` compares with it.

    Args:
        codec: The label codec of ``DrawLabel``, or its config.
    """

    def __init__(self, codec: dict | object) -> None:
        self.codec = TASK_UTILS.build(codec) if isinstance(codec, dict) else codec

    def transform(self, results: dict) -> dict:
        """Keep the annotation.

        Returns:
            ``results``, with ``ori_annotation``.

        Raises:
            ValueError: The image was moved already.
        """
        if "affine" in results:
            raise ValueError(
                f"KeepAnnotation comes after a transform that moved the image of {sample_name(results)}: put it before"
            )
        results["ori_annotation"] = self.codec.annotation_of(results)
        return results


@TRANSFORMS.register_module()
class DrawLabel(BaseTransform):
    """Draw the annotation as an image: adds ``label`` (uint8 H x W x 3) and ``annotation`` (as the codec defines it).

    Last of the geometric transforms: a drawing that is resized or flipped afterwards is not what the codec reads.

    Args:
        codec: A label codec or its config, e.g. ``dict(type='SkeletonCodec')``.
    """

    def __init__(self, codec: dict | object) -> None:
        self.codec = TASK_UTILS.build(codec) if isinstance(codec, dict) else codec

    def transform(self, results: dict) -> dict:
        """Draw the label."""
        require_rgb(results, "DrawLabel")
        annotation = self.codec.annotation_of(results)
        label = self.codec.encode(annotation)
        if "img" in results and label.shape != results["img"].shape:
            raise ValueError(
                f"{type(self.codec).__name__} drew a label of shape {label.shape} for {sample_name(results)}, whose "
                f"image has shape {results['img'].shape}: every transform must move the annotation too"
            )
        results["annotation"] = annotation
        results["label"] = label
        return results


@TRANSFORMS.register_module()
class Squash(BaseTransform):
    """Resize image and drawn label to a square, whatever their aspect ratio; to be put behind ``DrawLabel``.

    This is how the published protocols of visual prompting show images. Annotations stay those of the original image,
    for :class:`SquashedCodec`; what metrics of other codecs compare with would not fit. Where the image was drawn upon
    before it was squashed, edges of the label are gray.

    Args:
        size: Side in pixels.
        interpolation: 'bicubic' or 'bilinear', both with antialiasing.
    """

    def __init__(self, size: int = 256, interpolation: str = "bicubic") -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"Squash: size is {size!r}, expected a whole number of pixels from 1")
        self.size, self.interpolation = size, interpolation
        squash(np.zeros((1, 1, 3), np.uint8), 1, interpolation)  # refuses another interpolation

    def transform(self, results: dict) -> dict:
        """Squash ``img`` and ``label``.

        Returns:
            ``results``, with ``img_shape``.

        Raises:
            ValueError: There is no label yet.
        """
        missing = [key for key in ("img", "label") if key not in results]
        if missing:
            raise ValueError(f"Squash needs {' and '.join(missing)} of {sample_name(results)}: put it behind DrawLabel")
        for key in ("img", "label"):
            results[key] = squash(results[key], self.size, self.interpolation)
        results["img_shape"] = (self.size, self.size)
        return results
