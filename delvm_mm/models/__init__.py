from .data_preprocessor import VisualSentencePreprocessor
from .delvm import DeLVM
from .discriminator import PatchDiscriminator
from .embeddings import CodebookEmbedding, TokenEmbedding
from .heads import NextTokenHead
from .huggingface import delvm_from_huggingface
from .llama import LLaMA
from .losses import LogitsKLLoss
from .perceptual import LPIPS
from .tokenizers import load_tokenizer
from .vqgan import VQGAN
from .vqgan_adversarial import VQGANAdversarialTrainer
from .vqgan_trainer import VQGANTrainer

__all__ = [
    "LPIPS",
    "VQGAN",
    "CodebookEmbedding",
    "DeLVM",
    "LLaMA",
    "LogitsKLLoss",
    "NextTokenHead",
    "PatchDiscriminator",
    "TokenEmbedding",
    "VQGANAdversarialTrainer",
    "VQGANTrainer",
    "VisualSentencePreprocessor",
    "delvm_from_huggingface",
    "load_tokenizer",
]
