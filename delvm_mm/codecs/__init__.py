"""Label codecs: an annotation drawn as a picture, and the picture read back."""

from .base import LabelCodec
from .color_mask import RandomColorMaskCodec
from .mask import ForegroundMaskCodec
from .picture import RestorationCodec
from .skeleton import SkeletonCodec, mpii_to_coco

__all__ = [
    "ForegroundMaskCodec",
    "LabelCodec",
    "RandomColorMaskCodec",
    "RestorationCodec",
    "SkeletonCodec",
    "mpii_to_coco",
]
