"""Generation on every device: greedy tokens are those of Hugging Face's ``LlamaForCausalLM`` on the same device."""

import pytest
import torch

from delvm_mm.generation import TokenSampler
from delvm_mm.models import delvm_from_huggingface
from helpers.random_llama import random_llama

pytest.importorskip("transformers")

PROMPT, QUERY, ANSWER = 32, 20, 64
ROW_BYTES = 2 * 2 * 4 * 16 * 4  # keys and values, layers, heads, channels, float32: of one token

MODES = {
    "single": ([0], {}),
    "batched": ([0, 1, 2], {}),
    "shared prompt": ([0, 0, 0], dict(prompt_length=PROMPT)),
    "mixed prompts": ([0, 1, 0, 2, 1], dict(prompt_length=PROMPT)),
    "in parts": ([0, 1, 2], dict(max_cache_bytes=2 * (QUERY + PROMPT + ANSWER) * ROW_BYTES)),
    "static": ([0, 1, 2], dict(compile=True)),
    "static, shared prompt": ([0, 0], dict(compile=True, prompt_length=PROMPT)),
    "static, mixed prompts": ([0, 1, 0], dict(compile=True, prompt_length=PROMPT)),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = random_llama(num_layers=2, max_positions=128)
    folder = tmp_path_factory.mktemp("export")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture
def models(exported, device, monkeypatch):
    reference, folder = exported
    if device.type == "cpu":  # the static step as it is: compiling it is a test of generation
        monkeypatch.setattr(torch, "compile", lambda function: function)
        # A user is refused.
        monkeypatch.setattr("delvm_mm.models.answering._check_compile", lambda compiled, device: None)
    return reference.to(device), delvm_from_huggingface(folder).to(device)


def batch(device, *prompts):
    generator = torch.Generator().manual_seed(0)
    of_number = torch.randint(96, (8, PROMPT), generator=generator)
    queries = torch.randint(96, (len(prompts), QUERY), generator=generator)
    return torch.cat((of_number[list(prompts)], queries), dim=1).to(device)


def greedy(reference, tokens):
    length = dict(max_new_tokens=ANSWER, min_new_tokens=ANSWER)
    return reference.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=False, **length)[
        :, tokens.shape[1] :
    ]


@pytest.mark.parametrize("mode", MODES)
def test_greedy_tokens_are_those_of_hugging_face(models, device, mode):
    reference, ours = models
    prompts, options = MODES[mode]
    tokens = batch(device, *prompts)
    expected = greedy(reference, tokens)
    assert len(expected.unique()) > 10
    for _ in range(2):  # the second call finds packed weights, prompts and captured steps
        assert torch.equal(ours.generate(tokens, ANSWER, **options), expected)


def test_calls_of_other_shapes_and_weights_in_between(models, device):
    reference, ours = models
    for prompts in ([0, 0], [1], [2, 2], [0, 0]):
        tokens = batch(device, *prompts)
        written = ours.generate(tokens, ANSWER, prompt_length=PROMPT, compile=True)
        assert torch.equal(written, greedy(reference, tokens))
    before = written
    with torch.no_grad():
        ours.head.projection.weight.copy_(ours.head.projection.weight.flip(0))
    assert not torch.equal(ours.generate(tokens, ANSWER, prompt_length=PROMPT, compile=True), before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_differs_only_at_near_ties(models, device, dtype):
    if device.type == "cpu" and dtype == "float16":
        pytest.skip("float16 is for GPUs")
    _, ours = models
    tokens = batch(device, *range(4))
    written = ours.generate(tokens, ANSWER, dtype=dtype, prompt_length=PROMPT)
    with torch.no_grad():
        logits = ours(torch.cat((tokens, written), dim=1))[:, tokens.shape[1] - 1 : -1]
    lost = logits.amax(-1) - logits.gather(-1, written.unsqueeze(-1)).squeeze(-1)
    assert (lost == 0).float().mean() > 0.95
    assert lost.max() < 0.25 * logits.std()


def test_a_seed_draws_the_same_again_with_and_without_sharing(models, device):
    _, ours = models
    tokens = batch(device, 0, 1, 0)
    plain, shared, other = (
        ours.generate(tokens, 30, sampler=TokenSampler(temperature=1.0, seed=seed), prompt_length=length)
        for seed, length in ((3, 0), (3, PROMPT), (4, 0))
    )
    assert (plain == shared).float().mean() > 0.9  # a sum in another order may tip a draw
    assert not torch.equal(plain, other)
