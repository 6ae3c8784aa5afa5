from .cached import CachedDataset
from .image_io import read_picture
from .procedural import ProceduralScenes
from .samplers import SentenceSampler
from .token_store import TokenStore
from .token_store_writer import TokenStoreWriter
from .tokenization import tokenize_clips
from .transforms import CenterCrop, DrawLabel, LoadPicture, PackClip, PackTokens, ResizeShortSide, VQGANTokenize
from .vision_prompts import VisionPromptDataset
from .visual_sentences import VisualSentenceDataset

__all__ = [
    "CachedDataset",
    "CenterCrop",
    "DrawLabel",
    "LoadPicture",
    "PackClip",
    "PackTokens",
    "ProceduralScenes",
    "ResizeShortSide",
    "SentenceSampler",
    "TokenStore",
    "TokenStoreWriter",
    "VQGANTokenize",
    "VisionPromptDataset",
    "VisualSentenceDataset",
    "read_picture",
    "tokenize_clips",
]
