"""The decoding loop: read the prompt once (prefill), then write one token after another from the cache."""

from collections.abc import Callable

import torch
from torch import Tensor

from .cache import KVCache

Step = Callable[[Tensor, KVCache], Tensor]


@torch.no_grad()
def decode_tokens(
    step: Step,
    prompt: Tensor,
    num_tokens: int,
    sampler: Callable[[Tensor], Tensor],
    cache: KVCache,
    on_token: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Continue every row of ``prompt`` by ``num_tokens`` tokens.

    Args:
        step (Callable): ``(tokens B x L, cache) -> logits B x K`` of the token that follows the last one; it appends
            the tokens to the cache.
        prompt (Tensor): int64, B x L, L >= 1; the tokens that are not in the cache yet.
        num_tokens (int): How many to write.
        sampler (Callable): ``logits B x K -> tokens B``.
        cache (KVCache): With room for L + num_tokens - 1 tokens more.
        on_token (Callable, optional): Called with (index, tokens B) after each token; for progress bars and for
            showing a picture while it is written.

    Returns:
        Tensor: int64, B x num_tokens.
    """
    written = prompt.new_empty(prompt.shape[0], num_tokens)
    tokens = prompt
    for index in range(num_tokens):
        next_token = sampler(step(tokens, cache))
        written[:, index] = next_token
        tokens = next_token[:, None]
        if on_token is not None:
            on_token(index, next_token)
    return written
