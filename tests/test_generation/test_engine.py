import copy
import shutil

import pytest
import torch

from delvm_mm.generation import Decoder, TokenSampler, engine
from delvm_mm.models import VQGAN, DeLVM, delvm_from_huggingface
from helpers.random_llama import random_llama

pytest.importorskip("transformers")

# 32 tokens of prompt, 20 of query and 256 of answer.
PROMPT, QUERY, ANSWER = 32, 20, 256
ROW_BYTES = 2 * 2 * 4 * 16 * 4  # keys and values, layers, heads, channels, float32: of one token


@pytest.fixture(scope="module")
def reference():
    return random_llama(num_layers=2, max_positions=320)


@pytest.fixture(scope="module")
def exported(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    reference.save_pretrained(folder)
    return folder


@pytest.fixture
def model(exported):
    return delvm_from_huggingface(exported)


def batch(*prompts):
    """One row for each number: the query is its own, the prompt that of the number."""
    generator = torch.Generator().manual_seed(0)
    of_number = torch.randint(96, (8, PROMPT), generator=generator)
    queries = torch.randint(96, (len(prompts), QUERY), generator=generator)
    return torch.cat((of_number[list(prompts)], queries), dim=1)


def greedy(reference, tokens, num_tokens=ANSWER):
    arguments = dict(max_new_tokens=num_tokens, min_new_tokens=num_tokens, do_sample=False)
    written = reference.generate(tokens, attention_mask=torch.ones_like(tokens), **arguments)[:, tokens.shape[1] :]
    assert num_tokens < ANSWER or len(written.unique()) > 10, "the answers must be varied enough to show a difference"
    return written


@pytest.mark.parametrize(
    ("prompts", "options"),
    [
        pytest.param([0], {}, id="single"),
        pytest.param([0, 1, 2], {}, id="batched"),
        pytest.param([0], dict(prompt_length=PROMPT), id="single behind a prompt"),
        pytest.param([0, 0, 0], dict(prompt_length=PROMPT), id="shared prompt"),
        pytest.param([0, 1, 0, 2, 1], dict(prompt_length=PROMPT), id="mixed prompts"),
        pytest.param([0, 1, 2], dict(prompt_length=PROMPT), id="prompts that nobody shares"),
        pytest.param([0, 1, 2], dict(max_cache_bytes=2 * 307 * ROW_BYTES), id="split"),
        pytest.param(
            [0, 1, 0, 0, 1], dict(prompt_length=PROMPT, max_cache_bytes=600 * ROW_BYTES), id="split, mixed prompts"
        ),
    ],
)
def test_greedy_tokens_are_those_of_hugging_face(model, reference, prompts, options):
    tokens = batch(*prompts)
    assert torch.equal(model.generate(tokens, ANSWER, **options), greedy(reference, tokens))


@pytest.mark.slow
def test_twenty_answers_are_those_of_hugging_face_in_every_way_of_asking(model, reference):
    """256 tokens behind 20 rows of four prompts: batched, shared, one at a time, with drafts and without."""
    tokens = batch(*(number % 4 for number in range(20)))
    expected = greedy(reference, tokens)
    for options in ({}, dict(prompt_length=PROMPT), dict(draft="2d"), dict(draft="2d", prompt_length=PROMPT)):
        assert torch.equal(model.generate(tokens, ANSWER, **options), expected), options
    for draft in ("2d", "none"):
        rows = [model.generate(row[None], ANSWER, prompt_length=PROMPT, draft=draft) for row in tokens]
        assert torch.equal(torch.cat(rows), expected), draft
    drawn = dict(sampler=dict(temperature=1.0, top_p=0.9, seed=3))
    plain = model.generate(tokens, ANSWER, draft="none", **drawn)
    assert not torch.equal(plain, expected)
    for options in (dict(draft="2d"), dict(draft="2d", prompt_length=PROMPT), dict(prompt_length=PROMPT)):
        assert torch.equal(model.generate(tokens, ANSWER, **options, **drawn), plain), options


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("options", [{}, dict(prompt_length=PROMPT)], ids=["batched", "mixed prompts"])
def test_the_compiled_step_writes_the_same_tokens(model, reference, options):
    tokens, parts = batch(0, 1, 0), (model.embedding, model.backbone, model.head)
    # Below the model, which refuses what does not pay on a CPU.
    written = model._engine.generate(parts, tokens, ANSWER, TokenSampler(), compile=True, **options)
    assert torch.equal(written, greedy(reference, tokens))


def test_compiling_is_refused_where_it_makes_slower(model):
    with pytest.raises(ValueError, match="compile is on and the device is a CPU"):
        model.generate(batch(0), 4, compile=True)


def test_without_the_private_operators_the_tokens_are_the_same(model, reference, monkeypatch):
    monkeypatch.setattr("delvm_mm.generation.decoder.has_flash_with_lse", lambda device: False)
    monkeypatch.setattr("delvm_mm.generation.linear._onednn", lambda dtype: False)
    tokens = batch(0, 1, 0)
    assert torch.equal(model.generate(tokens, ANSWER, prompt_length=PROMPT), greedy(reference, tokens))


@pytest.mark.parametrize(("prompts", "options"), [([0], {}), ([0, 1, 0], dict(prompt_length=PROMPT))])
def test_without_compiled_code_the_tokens_are_the_same(model, reference, prompts, options, monkeypatch):
    monkeypatch.setattr("delvm_mm.generation.decoder.has_native", lambda dtype, device: False)
    tokens = batch(*prompts)
    assert torch.equal(model.generate(tokens, ANSWER, **options), greedy(reference, tokens))


@pytest.mark.parametrize("compiled", [True, False], ids=["", "without compiled code"])
@pytest.mark.parametrize("at_once", [None, 1], ids=["batched", "single"])
def test_bfloat16_follows_float32_up_to_near_ties_no_less_than_hugging_face(
    model, reference, at_once, compiled, monkeypatch
):
    if not compiled:
        monkeypatch.setattr("delvm_mm.generation.decoder.has_native", lambda dtype, device: False)
    tokens = batch(*range(8))
    agreed, first = {}, {}
    options = dict(dtype="bfloat16", prompt_length=PROMPT)
    for name, written in (
        ("ours", torch.cat([model.generate(rows, ANSWER, **options) for rows in tokens.split(at_once or len(tokens))])),
        ("hugging face", greedy(copy.deepcopy(reference).bfloat16(), tokens)),
    ):
        # Each token against the float32 choice behind the same tokens: after a first difference texts go their own way.
        with torch.no_grad():
            logits = model(torch.cat((tokens, written), dim=1))[:, tokens.shape[1] - 1 : -1]
        lost = logits.amax(-1) - logits.gather(-1, written.unsqueeze(-1)).squeeze(-1)
        agreed[name] = (lost == 0).float().mean().item()
        first[name] = torch.where(lost.any(-1), (lost > 0).float().argmax(-1), ANSWER).float().mean().item()
        if name == "ours":  # a token that differs was a near tie: within a quarter of the spread of the logits
            assert lost.max() < 0.25 * logits.std()
    assert agreed["ours"] > 0.95 and agreed["ours"] > agreed["hugging face"] - 0.02
    assert first["ours"] > 0.5 * first["hugging face"]


def test_autocast_decides_the_type_where_none_is_given(model):
    tokens = batch(0)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = model.generate(tokens, 40)
    assert model._engine.decoder.table.dtype == torch.bfloat16
    assert torch.equal(under_autocast, model.generate(tokens, 40, dtype=torch.bfloat16))


def test_a_prompt_is_read_once_for_rows_and_calls(model, monkeypatch):
    read, plain = [], engine._read_prompt
    monkeypatch.setattr(engine, "_read_prompt", lambda *given: read.append(given[1].shape) or plain(*given))
    for prompts in ([0, 0, 1], [1, 0], [0]):
        model.generate(batch(*prompts), 2, prompt_length=PROMPT)
    assert read == [(1, PROMPT)] * 2
    # Parts of two rows; of a quarter of such a bound nothing is kept, but one call reads the prompt once.
    model.generate(batch(2, 2, 2, 2), 2, prompt_length=PROMPT, max_cache_bytes=(PROMPT + 2 * (QUERY + 1)) * ROW_BYTES)
    assert read == [(1, PROMPT)] * 3
    assert model._engine.prompts.nbytes == 0


def step_of_an_optimizer(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(batch(3), mode="loss")["loss_ce"].backward()
    optimizer.step()


def load_other_weights(model):
    model.load_state_dict({key: value * 1.5 for key, value in model.state_dict().items()})


def write_through_data(model):
    model.head.projection.weight.data.copy_(model.head.projection.weight.data.flip(0))
    model.backbone.layers[0].self_attn.v_proj.weight.data.mul_(2)


@pytest.mark.parametrize("change", [step_of_an_optimizer, load_other_weights, write_through_data])
def test_nothing_is_kept_of_weights_that_have_changed(model, change):
    tokens = batch(0, 0)
    before = model.generate(tokens, 40, prompt_length=PROMPT)
    change(model)
    after = model.generate(tokens, 40, prompt_length=PROMPT)
    assert torch.equal(after, copy.deepcopy(model).generate(tokens, 40))
    assert not torch.equal(after, before)


def test_training_takes_the_memory_back(model):
    model.generate(batch(0), 2, prompt_length=PROMPT)
    assert model._engine.decoder is not None and model._engine.prompts.nbytes == PROMPT * ROW_BYTES
    model.train()
    assert model._engine.decoder is None and model._engine.prompts.nbytes == 0


def test_state_dict_and_copies_carry_nothing_of_the_engine(model):
    keys = list(model.state_dict())
    model.generate(batch(0), 2, prompt_length=PROMPT)
    assert list(model.state_dict()) == keys
    assert copy.deepcopy(model)._engine.decoder is None


def test_a_sequence_larger_than_the_bound_is_refused_with_both_numbers(model):
    needed = (PROMPT + QUERY + 4 - 1) * ROW_BYTES
    assert model.generate(batch(0, 1), 4, max_cache_bytes=needed).shape == (2, 4)
    with pytest.raises(ValueError, match=f"take {needed} bytes and max_cache_bytes is {needed - 1}"):
        model.generate(batch(0, 1), 4, max_cache_bytes=needed - 1)


def test_keys_and_values_stay_within_the_bound(model, monkeypatch):
    most, new_cache = [], Decoder.new_cache

    def spy(decoder, batch_size, max_length):
        cache = new_cache(decoder, batch_size, max_length)
        most.append(model._engine.prompts.nbytes + cache.nbytes)
        return cache

    monkeypatch.setattr(Decoder, "new_cache", spy)
    own = QUERY + 9
    bound = (2 * PROMPT + 3 * own) * ROW_BYTES
    for prompts in ([0, 1, 2, 0, 1, 2, 0], [3, 4, 3, 4, 5, 5]):
        model.generate(batch(*prompts), 10, prompt_length=PROMPT, max_cache_bytes=bound)
        assert model._engine.prompts.nbytes <= bound / 4
    assert max(most) == bound


def test_every_token_is_reported_in_the_order_of_the_rows(model):
    tokens, seen = batch(0, 1, 0), []
    written = model.generate(
        tokens, 5, prompt_length=PROMPT, on_token=lambda index, token: seen.append((index, token.clone()))
    )
    assert [index for index, _ in seen] == list(range(5))
    assert torch.equal(torch.stack([token for _, token in seen], dim=1), written)


def test_draws_do_not_depend_on_sharing(model):
    tokens = batch(0, 1, 0)
    plain, shared = (
        model.generate(tokens, 30, sampler=TokenSampler(temperature=1.0, seed=3), prompt_length=length)
        for length in (0, PROMPT)
    )
    assert torch.equal(plain, shared)


def averaged(model, tokens, num_tokens, size):
    """One greedy answer an ensemble, slowly: everything is read again for every token."""
    groups = tokens.view(-1, size, tokens.shape[1])
    for _ in range(num_tokens):
        probability = torch.stack([model(group, mode="tensor")[:, -1].double().softmax(-1).mean(0) for group in groups])
        chosen = probability.argmax(-1)
        groups = torch.cat((groups, chosen[:, None, None].expand(-1, size, 1)), dim=2)
    return groups[:, 0, tokens.shape[1] :]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="one part"),
        pytest.param(dict(prompt_length=PROMPT), id="shared prompts"),
        # Own tokens of six rows and three prompts: two ensembles of three rows, then the last.
        pytest.param(
            dict(prompt_length=PROMPT, max_cache_bytes=(6 * (QUERY + 39) + 3 * PROMPT) * ROW_BYTES), id="split"
        ),
    ],
)
@torch.no_grad()
def test_an_ensemble_writes_what_an_independent_loop_over_mean_distributions_writes(model, options):
    tokens = batch(*[0, 1, 2] * 3)
    tokens[:, PROMPT:] = tokens[::3, PROMPT:].repeat_interleave(3, 0)  # the same query behind each prompt
    seen = []
    written = model.generate(
        tokens, 40, ensemble_size=3, on_token=lambda index, token: seen.append((index, token.clone())), **options
    )
    assert torch.equal(written, averaged(model, tokens, 40, 3))
    alone = model.generate(tokens, 40)
    assert not any(torch.equal(written, alone[member::3]) for member in range(3))
    parts = [torch.stack([token for index, token in seen if index == n]) for n in range(40)] if not options else []
    assert all(torch.equal(part[0], written[:, n]) for n, part in enumerate(parts))


def test_an_ensemble_of_equal_prompts_draws_what_one_draws(model):
    tokens = batch(0, 1)
    plain, of_three = (
        model.generate(rows, 30, sampler=TokenSampler(temperature=1.0, top_p=0.9, seed=3), ensemble_size=size)
        for rows, size in ((tokens, 1), (tokens.repeat_interleave(3, 0), 3))
    )
    assert torch.equal(plain, of_three)


def test_an_ensemble_beyond_the_bound_or_of_missing_rows_is_refused(model):
    needed = 3 * (PROMPT + QUERY + 3) * ROW_BYTES
    assert model.generate(batch(0, 1, 2), 4, ensemble_size=3, max_cache_bytes=needed).shape == (1, 4)
    message = f"ensemble of 3 sequences take {needed} bytes and max_cache_bytes is {needed - 1}.* a smaller ensemble"
    with pytest.raises(ValueError, match=message):
        model.generate(batch(0, 1, 2), 4, ensemble_size=3, max_cache_bytes=needed - 1)
    with pytest.raises(ValueError, match="ensemble_size is 2 and there are 3 rows, expected a multiple"):
        model.generate(batch(0, 1, 2), 4, ensemble_size=2)


def test_a_prompt_that_leaves_no_query_is_refused(model):
    with pytest.raises(ValueError, match="prompt_length is 52, expected 0 to 51"):
        model.generate(batch(0), 2, prompt_length=PROMPT + QUERY)


def test_an_unknown_type_or_option_is_refused(model):
    with pytest.raises(ValueError, match="dtype is 'bf16', expected"):
        model.generate(batch(0), 2, dtype="bf16")
    with pytest.raises(ValueError, match="generation has \\['batch'\\]"):
        DeLVM(None, model.backbone, model.embedding, model.head, generation=dict(batch=3))


def test_answers_can_be_trained_on(model):
    written = model.generate(batch(0), 4)
    model(written, mode="loss")["loss_ce"].backward()


def test_predict_encodes_each_image_once_and_shares_prompts(model, monkeypatch):
    torch.manual_seed(0)
    tokenizer = VQGAN(
        resolution=16,
        hidden_channels=32,
        channel_mult=(1, 2),
        num_res_blocks=1,
        z_channels=8,
        num_embeddings=96,
        quantized_embed_dim=8,
    )
    model = DeLVM(tokenizer, model.backbone, model.embedding, model.head).eval()
    pairs, queries = torch.rand(2, 3, 8, 8), torch.rand(4, 1, 3, 8, 8)
    inputs = torch.cat((pairs.expand(4, -1, -1, -1, -1), queries), dim=1)
    encoded = []
    encode = model.tokenizer.encode
    monkeypatch.setattr(model.tokenizer, "encode", lambda images: encoded.append(len(images)) or encode(images))
    samples = [*model.predict(inputs[:3]), *model.predict(inputs[3:])]
    assert encoded == [5, 1]
    assert model._engine.prompts.nbytes == 2 * 16 * ROW_BYTES
    tokens = encode(inputs.flatten(0, 1)).view(4, -1)
    assert torch.equal(torch.stack([sample.pred_tokens for sample in samples]), model.generate(tokens, 16))
