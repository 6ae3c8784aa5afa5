from .cached import CachedDataset, JoinedDataset
from .coco_pose import CocoPoseDataset
from .frame_folders import FrameFolderDataset
from .image_folder import ImageFolderDataset, ImageNetDataset
from .image_io import read_picture
from .mpii import MpiiDataset
from .pascal5i import Pascal5iDataset
from .procedural import ProceduralClasses, ProceduralScenes
from .reader import ReaderDataset
from .restoration import GoProDataset, PairedFolderDataset, RainDataset
from .sa1b import SA1BDataset
from .samplers import SentenceSampler
from .teacher_cache import TeacherCache
from .teacher_caching import cache_teacher
from .token_store import TokenStore
from .token_store_writer import TokenStoreWriter
from .tokenization import tokenize_clips
from .transforms import *  # noqa: F403 - the list is kept there
from .transforms import __all__ as _transforms
from .vision_prompts import VisionPromptDataset
from .visual_sentences import VisualSentenceDataset

__all__ = [
    "CachedDataset",
    "CocoPoseDataset",
    "FrameFolderDataset",
    "GoProDataset",
    "ImageFolderDataset",
    "ImageNetDataset",
    "JoinedDataset",
    "MpiiDataset",
    "PairedFolderDataset",
    "Pascal5iDataset",
    "ProceduralClasses",
    "ProceduralScenes",
    "RainDataset",
    "ReaderDataset",
    "SA1BDataset",
    "SentenceSampler",
    "TeacherCache",
    "TokenStore",
    "TokenStoreWriter",
    "VisionPromptDataset",
    "VisualSentenceDataset",
    "cache_teacher",
    "read_picture",
    "tokenize_clips",
    *_transforms,
]
