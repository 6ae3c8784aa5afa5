from delvm_mm.generation.cache import KVCache
from delvm_mm.generation.decoder import (
    Decoder,
    SharedPrompt,
    decode_one_token,
    decode_tokens,
    pack_decoder,
    prefill,
)
from delvm_mm.generation.drafts import Drafter, ImageLayout
from delvm_mm.generation.engine import GenerationEngine
from delvm_mm.generation.samplers import TokenSampler

__all__ = [
    "Decoder",
    "Drafter",
    "GenerationEngine",
    "ImageLayout",
    "KVCache",
    "SharedPrompt",
    "TokenSampler",
    "decode_one_token",
    "decode_tokens",
    "pack_decoder",
    "prefill",
]
