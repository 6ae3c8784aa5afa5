from .augment import ColorJitter, CropPerson, RandomCrop, RandomFlip, RandomResizedCrop, RandomRotation, SixCrop
from .formatting import PackClip, PackTokens
from .frames import LoadFrames
from .pictures import CenterCrop, DrawLabel, LoadPicture, ResizeShortSide
from .tokenize import VQGANTokenize

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "CropPerson",
    "DrawLabel",
    "LoadFrames",
    "LoadPicture",
    "PackClip",
    "PackTokens",
    "RandomCrop",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "ResizeShortSide",
    "SixCrop",
    "VQGANTokenize",
]
