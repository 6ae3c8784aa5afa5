import pytest
import torch

from delvm_mm.generation import TokenSampler
from delvm_mm.generation.samplers import CodeSampler, is_separable

transformers = pytest.importorskip("transformers")


def test_temperature_zero_is_the_greedy_choice():
    logits = torch.randn(5, 20)
    assert torch.equal(TokenSampler()(logits), logits.argmax(-1))


@pytest.mark.parametrize("arguments", [dict(top_k=7), dict(top_p=0.6), dict(top_k=9, top_p=0.8)])
def test_filters_keep_the_tokens_that_hugging_face_keeps(arguments):
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    expected = logits
    if "top_k" in arguments:
        expected = transformers.TopKLogitsWarper(arguments["top_k"])(None, expected)
    if "top_p" in arguments:
        expected = transformers.TopPLogitsWarper(arguments["top_p"])(None, expected)
    kept = TokenSampler(temperature=1.0, **arguments).filter(logits)
    assert torch.equal(kept.isfinite(), expected.isfinite())


def test_draws_follow_the_tempered_distribution():
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(20000, 3)
    drawn = TokenSampler(temperature=2.0, seed=0)(logits).bincount(minlength=3) / 20000
    torch.testing.assert_close(drawn, (logits[0] / 2).softmax(-1), atol=0.02, rtol=0)


def test_draws_behind_filters_pass_a_chi_square_test():
    torch.manual_seed(0)
    logits = torch.randn(12)
    sampler = TokenSampler(temperature=0.8, top_k=8, top_p=0.9, seed=0)
    expected = sampler.filter(logits[None] / 0.8)[0].softmax(-1) * 50000
    drawn = sampler(logits.expand(50000, 12)).bincount(minlength=12)
    kept = expected > 0
    assert 2 < kept.sum() < 12 and drawn[~kept].sum() == 0
    chi_square = ((drawn - expected)[kept].square() / expected[kept]).sum()
    assert chi_square < 27.9  # exceeded once in 1000 with 9 degrees of freedom; there are fewer


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others():
    logits = torch.zeros(4, 1000)
    first, again, other = (TokenSampler(temperature=1.0, seed=seed)(logits) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("arguments", [dict(temperature=-1), dict(top_k=0), dict(top_p=0.0), dict(top_p=1.5)])
def test_arguments_out_of_range_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        TokenSampler(**arguments)


def test_given_random_numbers_rows_are_chosen_alike_in_any_order():
    logits, arguments = torch.randn(4, 50), dict(temperature=1.0, top_p=0.9, seed=2)
    at_once = TokenSampler(**arguments)(logits)
    noise = TokenSampler(**arguments).noise(4, 50, torch.device("cpu"))
    order = [2, 0, 3, 1]
    assert torch.equal(TokenSampler(**arguments).choose(logits[order], noise[order]), at_once[order])


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_special_ids_are_never_chosen(temperature):
    logits = torch.randn(30, 12)
    logits[:, 9:] += 100
    sampler = TokenSampler(temperature=temperature, seed=0)
    chosen = CodeSampler(sampler, 9)(logits)
    assert torch.equal(chosen, TokenSampler(temperature=temperature, seed=0)(logits[:, :9]))
    again = CodeSampler(TokenSampler(temperature=temperature, seed=0), 9)
    assert torch.equal(again.choose(logits, again.noise(30, 12, logits.device)), chosen)


def test_only_known_samplers_draw_apart_from_choosing():
    class Other(TokenSampler):
        def __call__(self, logits):
            return super().__call__(logits.flip(-1))

    assert is_separable(TokenSampler()) and is_separable(CodeSampler(TokenSampler(), 3))
    assert not is_separable(Other()) and not is_separable(lambda logits: logits.argmax(-1))
