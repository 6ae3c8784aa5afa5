from .cache import KVCache
from .decoding import decode_tokens
from .samplers import TokenSampler

__all__ = ["KVCache", "TokenSampler", "decode_tokens"]
