"""Jobs that run a model over data once and write down what it says."""

from delvm_mm.precompute.teacher import cache_teacher
from delvm_mm.precompute.tokenization import tokenize_clips

__all__ = ["cache_teacher", "tokenize_clips"]
