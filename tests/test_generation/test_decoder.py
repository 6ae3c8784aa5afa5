"""Cached decoding against the whole model, which computes every sentence from its first token on."""

import dataclasses

import pytest
import torch

from delvm_mm.generation import KVCache, SharedPrompt, decode_one_token, decode_tokens, pack_decoder, prefill
from delvm_mm.models import LLaMA, NextTokenHead, TokenEmbedding

CODES, CONTEXT = 20, 12


@pytest.fixture(scope="module", params=[4, 2], ids=["", "shared keys"])
def parts(request):
    torch.manual_seed(0)
    arch = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=48)
    backbone = LLaMA(arch, max_positions=CONTEXT, init_std=0.3, num_kv_heads=request.param).eval()
    return TokenEmbedding(32, CODES, init_std=1.0), backbone, NextTokenHead(32, CODES, init_std=0.5)


@pytest.fixture(scope="module", params=["plain", "operators", "static shapes"])
def decoder(parts, request):
    decoder = pack_decoder(*parts, dtype=torch.float32, static=request.param == "static shapes")
    return decoder if request.param == "plain" else dataclasses.replace(decoder, native=None)


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


@pytest.mark.parametrize("takes_masks", [True, False], ids=["masked", "before torch 2.3"])
@pytest.mark.parametrize("has_prompt", [False, True], ids=["plain", "shared prompts"])
def test_rows_read_as_many_tokens_at_once_as_each_is_given(parts, decoder, has_prompt, takes_masks, monkeypatch):
    monkeypatch.setattr("delvm_mm.generation.decoder.flash_takes_masks", lambda: takes_masks)
    before = 5 if has_prompt else 0
    tokens = torch.cat((sentences(3, before)[[0, 0, 1]], sentences(3, 7)), dim=1)
    expected, own, shared = uncached(parts, tokens), tokens[:, before:], []
    for start, stop in ((0, 2), (2, 3)) if has_prompt else ():
        shared.append(SharedPrompt(start, stop, decoder.new_cache(1, before)))
        prefill(decoder, tokens[start : start + 1, :before], shared[-1].cache)
    cache = decoder.new_cache(3, 7)
    prefill(decoder, own[:, :2], cache, shared)
    # Of the first pass, two rows are read too far, and wrongly: as drafts that are not taken.
    at, given = [2, 2, 2], [[*own[0, 2:4].tolist(), 7, 3], [*own[1, 2:3].tolist(), 1], own[2, 2:6].tolist()]
    for counts in ((2, 1, 4), (1, 3, 0), (2, 0, 1)):
        logits = decode_tokens(decoder, given, at, cache, shared).split([len(row) for row in given])
        for row, count in enumerate(counts):
            places = slice(before + at[row], before + at[row] + count)
            torch.testing.assert_close(logits[row][:count], expected[row, places], atol=1e-5, rtol=1e-5)
        at = [place + count for place, count in zip(at, counts, strict=True)]
        following = (1, 3, 0) if counts[0] == 2 else (2, 0, 1)
        given = [own[row, at[row] : at[row] + count].tolist() for row, count in enumerate(following)]


def test_one_row_reads_several_tokens_at_once(parts, decoder):
    tokens, cache = sentences(1, 9), decoder.new_cache(1, 9)
    prefill(decoder, tokens[:, :4], cache)
    logits = decode_tokens(decoder, [tokens[0, 4:].tolist()], [4], cache)
    torch.testing.assert_close(logits, uncached(parts, tokens)[0, 4:], atol=1e-5, rtol=1e-5)


def test_a_cache_that_is_too_short_says_what_it_holds(decoder):
    with pytest.raises(ValueError, match="the cache holds 4 tokens and was asked for 5"):
        prefill(decoder, sentences(1, 5), decoder.new_cache(1, 4))


def test_a_cache_states_its_bytes():
    # Keys and values, 3 layers, 2 rows, 2 heads, 4 tokens, 8 channels, float32.
    cache = KVCache(num_layers=3, batch_size=2, num_heads=2, max_length=4, head_dim=8)
    assert cache.nbytes == 2 * 3 * 2 * 2 * 4 * 8 * 4
