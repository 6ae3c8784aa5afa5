from .cache import KVCache
from .decoder import Decoder, SharedPrompt, decode_one_token, pack_decoder, prefill
from .engine import GenerationEngine
from .samplers import TokenSampler

__all__ = [
    "Decoder",
    "GenerationEngine",
    "KVCache",
    "SharedPrompt",
    "TokenSampler",
    "decode_one_token",
    "pack_decoder",
    "prefill",
]
