from .data_preprocessor import VisualSentencePreprocessor
from .delvm import DeLVM
from .embeddings import CodebookEmbedding, TokenEmbedding
from .heads import NextTokenHead
from .huggingface import delvm_from_huggingface
from .lazy_backbones import vision_llama_class
from .llama import LLaMA
from .losses import LogitsKLLoss
from .tokenizers import load_tokenizer
from .vqgan import VQGAN
from .vqgan_trainer import VQGANTrainer

__all__ = [
    "VQGAN",
    "CodebookEmbedding",
    "DeLVM",
    "LLaMA",
    "LogitsKLLoss",
    "NextTokenHead",
    "TokenEmbedding",
    "VQGANTrainer",
    "VisualSentencePreprocessor",
    "delvm_from_huggingface",
    "load_tokenizer",
]


def __getattr__(name: str) -> type:
    if name == "VisionLLaMA":
        return vision_llama_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
