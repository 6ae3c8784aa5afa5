from delvm_mm.datasets.transforms.augment import (
    ColorJitter,
    CropPerson,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    RandomRotation,
    SixCrop,
)
from delvm_mm.datasets.transforms.degrade import AddBlur, AddDarkness, AddNoise, AddRain, CannyEdges, MaskOut, ToGray
from delvm_mm.datasets.transforms.formatting import PackClip, PackTokens
from delvm_mm.datasets.transforms.frames import LoadFrames
from delvm_mm.datasets.transforms.images import (
    CenterCrop,
    DrawLabel,
    KeepAnnotation,
    Letterbox,
    LoadImage,
    ResizeShortSide,
    Squash,
)
from delvm_mm.datasets.transforms.labels import LoadDepth, MaskToBox
from delvm_mm.datasets.transforms.tiles import CropTile
from delvm_mm.datasets.transforms.tokenize import VQGANTokenize
from delvm_mm.datasets.transforms.toolboxes import BGRToRGB, LoadAnnotations, SetTask

__all__ = [
    "AddBlur",
    "AddDarkness",
    "AddNoise",
    "AddRain",
    "BGRToRGB",
    "CannyEdges",
    "CenterCrop",
    "ColorJitter",
    "CropPerson",
    "CropTile",
    "DrawLabel",
    "KeepAnnotation",
    "Letterbox",
    "LoadAnnotations",
    "LoadDepth",
    "LoadFrames",
    "LoadImage",
    "MaskOut",
    "MaskToBox",
    "PackClip",
    "PackTokens",
    "RandomCrop",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "ResizeShortSide",
    "SetTask",
    "SixCrop",
    "Squash",
    "ToGray",
    "VQGANTokenize",
]
