from .cached_kl import CachedTeacherTerm
from .chunked_loss import LossTerm, next_token_losses
from .data_preprocessor import VisualSentencePreprocessor
from .delvm import DeLVM
from .embeddings import CodebookEmbedding, TokenEmbedding
from .extra_loss import ExtraLoss
from .heads import NextTokenHead
from .huggingface import delvm_from_huggingface
from .llama import LLaMA
from .losses import LogitsKLLoss, SimilarityLoss
from .tokenizers import load_tokenizer
from .vqgan import VQGAN
from .vqgan_trainer import VQGANTrainer

__all__ = [
    "VQGAN",
    "CachedTeacherTerm",
    "CodebookEmbedding",
    "DeLVM",
    "ExtraLoss",
    "LLaMA",
    "LogitsKLLoss",
    "LossTerm",
    "NextTokenHead",
    "SimilarityLoss",
    "TokenEmbedding",
    "VQGANTrainer",
    "VisualSentencePreprocessor",
    "delvm_from_huggingface",
    "load_tokenizer",
    "next_token_losses",
]
