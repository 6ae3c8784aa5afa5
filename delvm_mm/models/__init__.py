from .cached_kl import CachedTeacherTerm
from .data_preprocessor import VisualSentencePreprocessor
from .delvm import DeLVM
from .embeddings import CodebookEmbedding, TokenEmbedding
from .heads import NextTokenHead
from .huggingface import delvm_from_huggingface
from .llama import LLaMA
from .losses import LogitsKLLoss
from .tokenizers import load_tokenizer
from .vqgan import VQGAN
from .vqgan_trainer import VQGANTrainer

__all__ = [
    "VQGAN",
    "CachedTeacherTerm",
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
