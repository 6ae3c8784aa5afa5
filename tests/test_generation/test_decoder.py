"""Cached decoding against the whole model, which computes every sentence from its first token on."""

import pytest
import torch

from delvm_mm.generation import KVCache, SharedPrompt, decode_one_token, pack_decoder, prefill
from delvm_mm.models import LLaMA, NextTokenHead, TokenEmbedding

CODES, CONTEXT = 20, 12


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    arch = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=48)
    backbone = LLaMA(arch, max_positions=CONTEXT, init_std=0.3).eval()
    return TokenEmbedding(32, CODES, init_std=1.0), backbone, NextTokenHead(32, CODES, init_std=0.5)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "static shapes"])
def decoder(parts, request):
    return pack_decoder(*parts, dtype=torch.float32, static=request.param)


@torch.no_grad()
def uncached(parts, tokens):
    embedding, backbone, head = parts
    return head(backbone(embedding(tokens)))


def cached(decoder, tokens, num_prefilled, cache_length, prompts=()):
    """Logits B x (L - num_prefilled + 1) x K of the last prefilled token and of those that come one by one."""
    cache = decoder.new_cache(len(tokens), cache_length)
    logits = [prefill(decoder, tokens[:, :num_prefilled], cache, prompts)]
    for position in range(num_prefilled, tokens.shape[1]):
        kv_len = position + 1 if decoder.flash else cache_length
        input_pos = torch.tensor([position])
        logits.append(decode_one_token(decoder, tokens[:, position], input_pos, kv_len, cache, prompts))
    return torch.stack(logits, dim=1)


def sentences(*shape):
    return torch.randint(CODES, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("num_prefilled", [1, 4, 9, 10])
@pytest.mark.parametrize("cache_length", [10, 12])
def test_cached_logits_are_those_of_the_whole_model_wherever_the_prefill_ends(
    parts, decoder, num_prefilled, cache_length
):
    tokens = sentences(2, 10)
    expected = uncached(parts, tokens)[:, num_prefilled - 1 :]
    torch.testing.assert_close(cached(decoder, tokens, num_prefilled, cache_length), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_prefilled", [1, 3])
def test_tokens_behind_a_shared_prompt_count_on_from_its_end(parts, decoder, num_prefilled):
    prompts, queries = sentences(2, 5), sentences(3, 7)
    shared = []
    for start, stop, prompt in ((0, 2, prompts[:1]), (2, 3, prompts[1:])):
        shared.append(SharedPrompt(start, stop, decoder.new_cache(1, 5)))
        prefill(decoder, prompt, shared[-1].cache)
    whole = torch.cat((prompts[[0, 0, 1]], queries), dim=1)
    expected = uncached(parts, whole)[:, 5 + num_prefilled - 1 :]
    torch.testing.assert_close(cached(decoder, queries, num_prefilled, 7, shared), expected, atol=1e-5, rtol=1e-5)


def test_a_cache_that_is_too_short_says_what_it_holds(decoder):
    with pytest.raises(ValueError, match="the cache holds 4 tokens and was asked for 5"):
        prefill(decoder, sentences(1, 5), decoder.new_cache(1, 4))


def test_a_cache_states_its_bytes():
    # Keys and values, 3 layers, 2 rows, 2 heads, 4 tokens, 8 channels, float32.
    cache = KVCache(num_layers=3, batch_size=2, num_heads=2, max_length=4, head_dim=8)
    assert cache.nbytes == 2 * 3 * 2 * 2 * 4 * 8 * 4
