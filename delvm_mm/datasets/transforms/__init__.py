from .formatting import PackClip, PackTokens
from .pictures import CenterCrop, DrawLabel, LoadPicture, ResizeShortSide
from .tokenize import VQGANTokenize

__all__ = ["CenterCrop", "DrawLabel", "LoadPicture", "PackClip", "PackTokens", "ResizeShortSide", "VQGANTokenize"]
