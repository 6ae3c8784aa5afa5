from delvm_mm.models.backbones.lazy import vision_llama_class
from delvm_mm.models.backbones.llama import LLaMA
from delvm_mm.models.data_preprocessor import VisualSentencePreprocessor
from delvm_mm.models.delvm import DeLVM
from delvm_mm.models.embeddings import CodebookEmbedding, TokenEmbedding
from delvm_mm.models.gguf_export import save_as_gguf
from delvm_mm.models.heads import NextTokenHead
from delvm_mm.models.huggingface import delvm_from_huggingface
from delvm_mm.models.huggingface_export import save_as_huggingface
from delvm_mm.models.internlm import delvm_from_internlm
from delvm_mm.models.losses.cached_kl import CachedTeacherTerm
from delvm_mm.models.losses.chunked_loss import LossTerm, next_token_losses
from delvm_mm.models.losses.distillation import LogitsKLLoss, SimilarityLoss
from delvm_mm.models.losses.extra_loss import ExtraLoss
from delvm_mm.models.tokenizers.discriminator import PatchDiscriminator
from delvm_mm.models.tokenizers.loading import load_tokenizer
from delvm_mm.models.tokenizers.lpips import LPIPS
from delvm_mm.models.tokenizers.vqgan import VQGAN
from delvm_mm.models.tokenizers.vqgan_adversarial import VQGANAdversarialTrainer
from delvm_mm.models.tokenizers.vqgan_trainer import VQGANTrainer

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
    "delvm_from_internlm",
    "load_tokenizer",
    "next_token_losses",
    "save_as_gguf",
    "save_as_huggingface",
]


def __getattr__(name: str) -> type:
    if name == "VisionLLaMA":
        return vision_llama_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
