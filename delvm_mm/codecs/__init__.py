"""Label codecs: an annotation drawn as an image, and the image read back."""

from delvm_mm.codecs.base import LabelCodec
from delvm_mm.codecs.box import BoxCodec
from delvm_mm.codecs.depth import DepthCodec
from delvm_mm.codecs.masks.color_mask import RandomColorMaskCodec
from delvm_mm.codecs.masks.mask import ForegroundMaskCodec
from delvm_mm.codecs.masks.semantic_mask import SemanticMaskCodec
from delvm_mm.codecs.restoration import RestorationCodec
from delvm_mm.codecs.skeletons.keypoint_discs import KeypointDiscsCodec
from delvm_mm.codecs.skeletons.keypoints import mpii_to_coco
from delvm_mm.codecs.skeletons.skeleton import SkeletonCodec
from delvm_mm.codecs.squashed import SquashedCodec

__all__ = [
    "BoxCodec",
    "DepthCodec",
    "ForegroundMaskCodec",
    "KeypointDiscsCodec",
    "LabelCodec",
    "RandomColorMaskCodec",
    "RestorationCodec",
    "SemanticMaskCodec",
    "SkeletonCodec",
    "SquashedCodec",
    "mpii_to_coco",
]
