from .cached_kl import CachedTeacherTerm
from .chunked_loss import LossTerm, next_token_losses
from .data_preprocessor import VisualSentencePreprocessor
from .delvm import DeLVM
from .discriminator import PatchDiscriminator
from .embeddings import CodebookEmbedding, TokenEmbedding
from .extra_loss import ExtraLoss
from .heads import NextTokenHead
from .huggingface import delvm_from_huggingface
from .lazy_backbones import vision_llama_class
from .llama import LLaMA
from .losses import LogitsKLLoss, SimilarityLoss
from .perceptual import LPIPS
from .tokenizers import load_tokenizer
from .vqgan import VQGAN
from .vqgan_adversarial import VQGANAdversarialTrainer
from .vqgan_trainer import VQGANTrainer

__all__ = [
    "LPIPS",
    "VQGAN",
    "CachedTeacherTerm",
    "CodebookEmbedding",
    "DeLVM",
    "ExtraLoss",
    "LLaMA",
    "LogitsKLLoss",
    "LossTerm",
    "NextTokenHead",
    "PatchDiscriminator",
    "SimilarityLoss",
    "TokenEmbedding",
    "VQGANAdversarialTrainer",
    "VQGANTrainer",
    "VisualSentencePreprocessor",
    "delvm_from_huggingface",
    "load_tokenizer",
    "next_token_losses",
]


def __getattr__(name: str) -> type:
    if name == "VisionLLaMA":
        return vision_llama_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
