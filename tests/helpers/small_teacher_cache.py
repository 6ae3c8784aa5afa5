"""A small random teacher, token stores, and the teacher cache that is made of them."""

import numpy as np
import torch

from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.models import DeLVM
from delvm_mm.precompute import cache_teacher
from delvm_mm.stores import TokenStoreWriter

CODES, LENGTH = 30, 16
FINGERPRINT = "ab" * 8


def teacher_of(seed=0, **changes):
    torch.manual_seed(seed)
    backbone = dict(type="LLaMA", arch=dict(embed_dims=16, num_layers=1, num_heads=2), max_positions=LENGTH)
    sizes = dict(num_embeddings=CODES)
    model = DeLVM(
        tokenizer=None,
        backbone=backbone | changes,
        embedding=dict(type="TokenEmbedding", init_std=1.0, **sizes),
        head=dict(type="NextTokenHead", init_std=1.0, **sizes),
    )
    return model.requires_grad_(False).eval()


def write_store(folder, clips, seed=0, fingerprint=FINGERPRINT, codes=CODES):
    writer = TokenStoreWriter(
        folder, clip_shape=(2, 4), grid=(2, 2), num_embeddings=codes, tokenizer_fingerprint=fingerprint, task="seg"
    )
    writer.add(np.random.RandomState(seed).randint(0, CODES, (clips, 2, 4)))
    writer.finish()
    return folder


def make_cache(sentences, teacher, out, **options):
    return cache_teacher(sentences, teacher, out, **dict(top_k=5, batch=2, shard_sentences=3, device="cpu") | options)


def write_two_stores(folder):
    """Token stores of nine and of six clips."""
    return [write_store(folder / "a", 9), write_store(folder / "b", 6, seed=1)]


def sentences_of(stores):
    """Of the two stores seven sentences of two clips: four of the first store, three of the second."""
    return VisualSentenceDataset(stores, context=LENGTH, assembly="fixed", seed=3)
