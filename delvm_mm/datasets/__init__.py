from delvm_mm.datasets.dataset_wrappers import CachedDataset, JoinedDataset
from delvm_mm.datasets.image_features import BackboneFeatures, CodebookHistograms, TokenizerFeatures
from delvm_mm.datasets.image_sentences import ImageSentenceDataset
from delvm_mm.datasets.procedural import ProceduralClasses, ProceduralScenes
from delvm_mm.datasets.prompt_controls import PromptControlDataset
from delvm_mm.datasets.protocols import (
    BoxEpisodes,
    CocoEpisodes,
    ColorizationEpisodes,
    FSSEpisodes,
    NearestPascalEpisodes,
    PascalEpisodes,
)
from delvm_mm.datasets.random_crops import RandomCrops
from delvm_mm.datasets.readers.base import ReaderDataset
from delvm_mm.datasets.readers.coco_pose import CocoPoseDataset
from delvm_mm.datasets.readers.frame_folders import FrameFolderDataset
from delvm_mm.datasets.readers.image_folder import ImageFolderDataset, ImageNetDataset, ScikitImageDataset
from delvm_mm.datasets.readers.io.image import read_image
from delvm_mm.datasets.readers.mask_folder import MaskFolderDataset
from delvm_mm.datasets.readers.mpii import MpiiDataset
from delvm_mm.datasets.readers.pascal5i import Pascal5iDataset
from delvm_mm.datasets.readers.restoration import GoProDataset, PairedFolderDataset, RainDataset
from delvm_mm.datasets.readers.sa1b import SA1BDataset
from delvm_mm.datasets.samplers import SentenceSampler
from delvm_mm.datasets.seeded import SeededDataset
from delvm_mm.datasets.transforms import *  # noqa: F403 - the list is kept there
from delvm_mm.datasets.transforms import __all__ as _transforms
from delvm_mm.datasets.vision_prompts import VisionPromptDataset
from delvm_mm.datasets.visual_sentences import VisualSentenceDataset

__all__ = [
    "BackboneFeatures",
    "BoxEpisodes",
    "CachedDataset",
    "CocoEpisodes",
    "CodebookHistograms",
    "CocoPoseDataset",
    "ColorizationEpisodes",
    "FSSEpisodes",
    "FrameFolderDataset",
    "GoProDataset",
    "ImageFolderDataset",
    "ImageNetDataset",
    "JoinedDataset",
    "MaskFolderDataset",
    "MpiiDataset",
    "NearestPascalEpisodes",
    "PairedFolderDataset",
    "Pascal5iDataset",
    "PascalEpisodes",
    "ProceduralClasses",
    "ImageSentenceDataset",
    "ProceduralScenes",
    "PromptControlDataset",
    "RainDataset",
    "RandomCrops",
    "ReaderDataset",
    "SA1BDataset",
    "SeededDataset",
    "ScikitImageDataset",
    "SentenceSampler",
    "TokenizerFeatures",
    "VisionPromptDataset",
    "VisualSentenceDataset",
    "read_image",
    *_transforms,
]
