"""Label codecs: an annotation drawn as an image, and the image read back."""

from delvm_mm.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "base": ["LabelCodec"],
        "box": ["BoxCodec"],
        "depth": ["DepthCodec"],
        "masks.color_mask": ["RandomColorMaskCodec"],
        "masks.mask": ["ForegroundMaskCodec"],
        "masks.semantic_mask": ["SemanticMaskCodec"],
        "restoration": ["RestorationCodec"],
        "skeletons.keypoint_discs": ["KeypointDiscsCodec"],
        "skeletons.keypoints": ["mpii_to_coco"],
        "skeletons.skeleton": ["SkeletonCodec"],
        "squashed": ["SquashedCodec"],
    },
)
