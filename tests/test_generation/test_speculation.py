"""Drafts change nothing: what is written with them, right or wrong ones, against what is written without."""

import random

import pytest
import torch

from delvm_mm.generation import Drafter, TokenSampler, decoder, engine, speculation
from delvm_mm.models import DeLVM, LLaMA, NextTokenHead, TokenEmbedding

CODES, PROMPT, QUERY, ANSWER = 40, 32, 20, 256
ROW_BYTES = 2 * 4 * 8 * 4  # keys and values, heads, channels, float32: of one token


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    arch = dict(embed_dims=32, num_layers=1, num_heads=4, feedforward_channels=48)
    backbone = LLaMA(arch, max_positions=320, init_std=0.5)
    return DeLVM(None, backbone, TokenEmbedding(32, CODES, init_std=1.0), NextTokenHead(32, CODES, init_std=0.5)).eval()


def batch(*prompts):
    """One row for each number: the query is its own, the prompt that of the number."""
    generator = torch.Generator().manual_seed(0)
    of_number = torch.randint(CODES, (8, PROMPT), generator=generator)
    return torch.cat((of_number[list(prompts)], torch.randint(CODES, (len(prompts), QUERY), generator=generator)), 1)


class Oracle:
    """A drafter that knows the answer and is wrong at one token in five; rows at different speeds."""

    def __init__(self, answer, row):
        self.answer, self.written, self.random, self.most = answer, 0, random.Random(row), 1 + 4 * (row % 3)

    def append(self, token):
        self.written += 1

    def propose(self, most, least_probability):
        length = self.random.randint(0, min(most, self.most))
        right = self.answer[self.written : self.written + length]
        return [token if self.random.random() < 0.8 else (token + 1) % CODES for token in right], 1000.0


@pytest.fixture
def oracles(monkeypatch):
    """Call it with the answers to be drafted; returns a list that grows by the tokens of every pass of several."""
    read, plain = [], engine.decode_tokens
    monkeypatch.setattr(engine, "decode_tokens", lambda *given: read.append(sum(map(len, given[1]))) or plain(*given))

    def use(answers, rows):
        known = {tuple(row): Oracle(answer, k) for k, (row, answer) in enumerate(zip(rows, answers, strict=True))}
        monkeypatch.setattr(Drafter, "of_rows", lambda given, layout: [known[tuple(row)] for row in given])
        return read

    return use


SAMPLERS = dict(greedy={}, drawn=dict(temperature=1.0, top_p=0.9, seed=5))


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize(
    ("prompts", "options"),
    [
        pytest.param([0], {}, id="single"),
        pytest.param([0], dict(prompt_length=PROMPT, dtype="float64"), id="single behind a prompt, float64"),
        pytest.param([0, 1, 2], dict(dtype="float64"), id="batched, float64"),
        pytest.param([0, 1, 0, 2], dict(prompt_length=PROMPT), id="mixed prompts"),
    ],
)
def test_what_is_written_is_what_is_written_without(model, oracles, prompts, options, sampler):
    tokens, options = batch(*prompts), dict(options, sampler=SAMPLERS[sampler])
    plain = model.generate(tokens, ANSWER, draft="none", **options)
    assert len(plain.unique()) > 10
    read = oracles(plain.tolist(), tokens.tolist())
    assert torch.equal(model.generate(tokens, ANSWER, draft="2d", **options), plain)
    assert 10 < len(read) < ANSWER - 40 and max(read) > len(prompts)


def test_a_batch_that_is_split_too(model, oracles):
    tokens, options = batch(0, 1, 2), dict(max_cache_bytes=2 * 115 * ROW_BYTES, sampler=SAMPLERS["drawn"])
    plain = model.generate(tokens, 64, draft="none", **options)
    read = oracles(plain.tolist(), tokens.tolist())
    assert torch.equal(model.generate(tokens, 64, draft="2d", **options), plain) and read


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param({"decoder.has_native": lambda dtype, device: False}, id="no compiled code"),
        pytest.param(
            {"decoder.has_flash_with_lse": lambda device: False, "linear._onednn": lambda dtype: False},
            id="no private operators",
        ),
    ],
)
def test_without_what_is_not_everywhere_too(model, oracles, missing, monkeypatch):
    tokens = batch(0, 1, 0)
    plain = model.generate(tokens, 64, draft="none")
    for name, replacement in missing.items():
        monkeypatch.setattr(f"delvm_mm.generation.{name}", replacement)
    model._engine.clear()
    read = oracles(plain.tolist(), tokens.tolist())
    assert torch.equal(model.generate(tokens, 64, prompt_length=PROMPT, draft="2d"), plain) and read
    model._engine.clear()


def test_draws_go_on_where_they_would_without(model, oracles):
    tokens, sampler = batch(0, 1), TokenSampler(temperature=1.0, seed=0)
    first, second = (model.generate(tokens, 64, sampler=sampler, draft="none") for _ in range(2))
    sampler = TokenSampler(temperature=1.0, seed=0)
    oracles(first.tolist(), tokens.tolist())
    assert torch.equal(model.generate(tokens, 64, sampler=sampler, draft="2d"), first)
    oracles(second.tolist(), tokens.tolist())
    assert torch.equal(model.generate(tokens, 64, sampler=sampler, draft="2d"), second)


class Alternating:
    """A sampler with a memory: the best and the second best token in turn."""

    calls = 0

    def __call__(self, logits):
        self.calls += 1
        return logits.topk(2, dim=-1).indices[:, self.calls % 2]


@pytest.mark.parametrize("rows", [1, 2])
def test_a_sampler_of_ones_own_is_asked_once_a_token_in_turn(model, oracles, rows):
    tokens = batch(*range(rows))
    plain = model.generate(tokens, 64, sampler=Alternating(), draft="none")
    read, sampler = oracles(plain.tolist(), tokens.tolist()), Alternating()
    assert torch.equal(model.generate(tokens, 64, sampler=sampler, draft="2d"), plain)
    assert sampler.calls == 64 and bool(read) == (rows == 1)  # several rows would be out of turn: they go without


def test_every_token_is_reported_when_all_rows_have_it(model, oracles):
    tokens, seen = batch(0, 1, 0), []
    plain = model.generate(tokens, 64, prompt_length=PROMPT, draft="none")
    oracles(plain.tolist(), tokens.tolist())
    options = dict(prompt_length=PROMPT, draft="2d", on_token=lambda *given: seen.append(given))
    model.generate(tokens, 64, **options)
    assert [index for index, _ in seen] == list(range(64))
    assert torch.equal(torch.stack([token for _, token in seen], dim=1), plain)


def test_a_fast_row_waits_so_that_few_random_numbers_are_kept(model, oracles, monkeypatch):
    kept, forget = [], speculation._Choices.forget
    monkeypatch.setattr(
        speculation._Choices, "forget", lambda self, place: forget(self, place) or kept.append(len(self._noise))
    )
    monkeypatch.setattr(speculation, "MAX_LEAD", 8)
    monkeypatch.setattr(decoder, "CACHED_BYTES", 0)  # drafts as cheap as beside large weights, so that a row gets ahead
    tokens, sampler = batch(0, 1, 2), dict(temperature=1.0, seed=0)
    plain = model.generate(tokens, 100, sampler=sampler, draft="none")
    oracles(plain.tolist(), tokens.tolist())
    assert torch.equal(model.generate(tokens, 100, sampler=sampler, draft="2d", grid=(10, 10)), plain)
    assert 8 < max(kept) <= 8 + 16


class Sure:
    """A drafter that drafts a token, always, and expects it to be right as often as it is told."""

    def __init__(self, expected):
        self.expected = expected

    def append(self, token):
        pass

    def propose(self, most, least_probability):
        return ([0], self.expected) if most else ([], 0.0)


@pytest.mark.parametrize(("expected", "is_read"), [(1.05, False), (1.15, True)])
def test_drafts_are_read_if_they_bring_more_than_they_cost(expected, is_read):
    # A token costs 0.1 of a pass and drafts 0.5 beside it, the time of 0.6 tokens; what is expected for the first time
    # counts by half.
    passes = []

    def read(given, written):
        passes.append([len(row) for row in given])
        return torch.zeros(sum(passes[-1]), 3).index_fill_(1, torch.tensor([2]), 1.0)

    answer = speculation.write_with_drafts(torch.eye(3)[2:], [Sure(expected)], read, TokenSampler(), 9, 0.1, 0.5)
    assert torch.equal(answer, torch.full((1, 9), 2))
    assert passes[0] == ([2] if is_read else [1])


def test_special_ids_are_not_written_by_drafts_either(oracles):
    torch.manual_seed(0)
    backbone = LLaMA(dict(embed_dims=32, num_layers=1, num_heads=4, feedforward_channels=48), max_positions=100)
    parts = TokenEmbedding(32, CODES + 1, init_std=1.0), NextTokenHead(32, CODES + 1, init_std=0.5)
    model = DeLVM(None, backbone, *parts, num_special_ids=1, bos_token=CODES).eval()
    model.head.projection.weight.data[CODES] *= 20
    tokens, sampler = model.with_bos(batch(0, 1)[:, :20]), dict(temperature=1.0, seed=0)
    plain = model.generate(tokens, 64, sampler=sampler, draft="none")
    oracles(plain.tolist(), tokens.tolist())
    assert torch.equal(model.generate(tokens, 64, sampler=sampler, draft="2d"), plain)
    assert plain.max() < CODES


def test_images_begin_behind_the_beginning_of_a_sentence():
    backbone = LLaMA(dict(embed_dims=32, num_layers=1, num_heads=4, feedforward_channels=48), max_positions=100)
    parts = TokenEmbedding(32, CODES + 1), NextTokenHead(32, CODES + 1)
    model = DeLVM(None, backbone, *parts, num_special_ids=1, bos_token=CODES)
    tokens = batch(0, 1)
    assert model._layout(model.with_bos(tokens), (4, 4)).skip == 1
    assert model._layout(tokens, (4, 4)).skip == 0


def test_single_answers_are_drafted_unless_told_otherwise(model, monkeypatch):
    layouts = []
    monkeypatch.setattr(
        model._engine, "generate", lambda *given, layout=None, **named: layouts.append(layout) or given[1][:, :1]
    )
    for rows, options in ((1, {}), (2, {}), (1, dict(draft="none")), (2, dict(draft="2d")), (1, dict(num_tokens=50))):
        model.generate(batch(*range(rows)), **dict(num_tokens=64) | options)
    monkeypatch.setattr(model, "generation", dict(draft="none"))
    model.generate(batch(0), 64)
    assert [layout is not None for layout in layouts] == [True, False, False, True, False, False]


def test_settings_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match="draft is '3d', expected '2d' or 'none'"):
        model.generate(batch(0), 4, draft="3d")
    with pytest.raises(ValueError, match="a compiled step reads one token"):
        model.generate(batch(0), 4, draft="2d", compile=True)
    with pytest.raises(ValueError, match="draft is True"):
        DeLVM(None, model.backbone, model.embedding, model.head, generation=dict(draft=True))
