from delvm_mm.datasets.transforms.augment import (
    ColorJitter,
    CropPerson,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    RandomRotation,
    SixCrop,
)
from delvm_mm.datasets.transforms.formatting import PackClip, PackTokens
from delvm_mm.datasets.transforms.frames import LoadFrames
from delvm_mm.datasets.transforms.images import (
    CenterCrop,
    DrawLabel,
    KeepAnnotation,
    Letterbox,
    LoadImage,
    ResizeShortSide,
)
from delvm_mm.datasets.transforms.tokenize import VQGANTokenize
from delvm_mm.datasets.transforms.toolboxes import BGRToRGB, LoadAnnotations, SetTask

__all__ = [
    "BGRToRGB",
    "CenterCrop",
    "ColorJitter",
    "CropPerson",
    "DrawLabel",
    "KeepAnnotation",
    "Letterbox",
    "LoadAnnotations",
    "LoadFrames",
    "LoadImage",
    "PackClip",
    "PackTokens",
    "RandomCrop",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "ResizeShortSide",
    "SetTask",
    "SixCrop",
    "VQGANTokenize",
]
