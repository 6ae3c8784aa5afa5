"""The loss from a teacher's top codes, against its formula written plainly, autograd and the loss of full logits."""

import math

import pytest
import torch

from delvm_mm.models import CachedTeacherTerm, LogitsKLLoss

N, K = 12, 40


def top_of(teacher_logits, k, temperature):
    """Codes, log-probabilities and log of the rest, by sorting."""
    log_p = (teacher_logits.double() / temperature).log_softmax(-1)
    values, codes = log_p.sort(dim=-1, descending=True)
    return codes[:, :k], values[:, :k], values[:, k:].logsumexp(-1) if k < K else torch.full((N,), -math.inf)


def by_hand(logits, codes, log_probs, log_rest, temperature, inverse, weight):
    """The written formula in float64, one token and one code after another."""
    total = 0.0
    for row in range(len(logits)):
        q = (logits[row] / temperature).softmax(-1)
        p = log_probs[row].double().exp()
        r = log_rest[row].double().exp()
        q_top = q[codes[row]]
        rest = [code for code in range(logits.shape[1]) if code not in codes[row].tolist()]
        pairs = list(zip(p, q_top, strict=True)) + ([(r, q[rest].sum())] if rest else [])
        for a, b in pairs:
            if inverse:
                a, b = b, a
            total = total + a * (a.log() - b.log())
    return weight * temperature**2 * total


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("k", "temperature"), [(1, 1.0), (5, 1.0), (5, 2.5), (K - 1, 0.7), (K, 1.0)])
def test_value_and_gradient_are_those_of_the_formula(k, temperature, inverse):
    torch.manual_seed(k)
    codes, log_probs, log_rest = top_of(3 * torch.randn(N, K), k, temperature)
    logits = (3 * torch.randn(N, K, dtype=torch.float64)).requires_grad_()
    expected = by_hand(logits, codes, log_probs, log_rest, temperature, inverse, weight=0.3)
    expected.backward()
    term = CachedTeacherTerm(LogitsKLLoss(temperature, inverse, 0.3), codes, log_probs, log_rest)
    value, gradient = term(logits, slice(0, N))
    torch.testing.assert_close(value, expected.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, logits.grad, rtol=1e-8, atol=1e-9)
    assert not value.requires_grad and not gradient.requires_grad
    single, of_single = CachedTeacherTerm(
        LogitsKLLoss(temperature, inverse, 0.3), codes, log_probs.float(), log_rest.float()
    )(logits.detach().float(), slice(0, N))
    assert single.dtype == of_single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(of_single.double(), logits.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_with_all_codes_it_is_the_loss_of_full_logits(temperature, inverse):
    torch.manual_seed(0)
    teacher, student = 2 * torch.randn(N, K), (2 * torch.randn(N, K)).requires_grad_()
    loss = LogitsKLLoss(temperature, inverse, loss_weight=0.5)
    plain = loss(student, teacher)
    plain.backward()
    codes, log_probs, log_rest = (part.float() for part in top_of(teacher, K, temperature))
    value, gradient = CachedTeacherTerm(loss, codes.long(), log_probs, log_rest)(student.detach(), slice(0, N))
    assert value.item() / N == pytest.approx(plain.item(), abs=1e-6)
    torch.testing.assert_close(gradient / N, student.grad, rtol=1e-5, atol=1e-7)


def test_rows_and_blocks_add_up(monkeypatch):
    torch.manual_seed(0)
    term = CachedTeacherTerm(LogitsKLLoss(), *top_of(torch.randn(N, K), 4, 1.0))
    logits = torch.randn(N, K)
    value, gradient = term(logits, slice(0, N))
    parts = [term(logits[a:b], slice(a, b)) for a, b in ((0, 5), (5, 6), (6, N))]
    assert sum(part[0] for part in parts).item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), gradient)
    monkeypatch.setattr("delvm_mm.models.losses.cached_kl.CACHED_VALUES", 3 * K)
    value_of_blocks, gradient_of_blocks = term(logits, slice(0, N))
    assert value_of_blocks.item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(gradient_of_blocks, gradient)


def test_logits_are_left_as_they_were():
    logits = torch.randn(N, K)
    before = logits.clone()
    CachedTeacherTerm(LogitsKLLoss(2.0), *top_of(torch.randn(N, K), 4, 2.0))(logits, slice(0, N))
    assert torch.equal(logits, before)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("scale", [30.0, 1000.0, 1e5])
def test_extreme_logits_give_finite_and_right_gradients(scale, inverse):
    """Far beyond where exp() of float32 ends; the oracle has logarithms in float64 and autograd."""
    torch.manual_seed(1)
    codes, log_probs, log_rest = top_of(torch.randn(N, K), 3, 1.0)
    student = torch.randn(N, K) * scale
    # Students that are sure of a top code, of another code, and of both alike.
    student[0, codes[0, 0]] = student[1, (codes[1].max() + 1) % K] = student[2, codes[2, 1]] = 2 * scale
    wide = student.double().requires_grad_()
    log_q = wide.log_softmax(-1)
    masked = log_q.scatter(1, codes, -math.inf).logsumexp(-1, keepdim=True)
    events_q = torch.cat((log_q.gather(1, codes), masked), -1)
    events_p = torch.cat((log_probs, log_rest[:, None]), -1)
    a, b = (events_q, events_p) if inverse else (events_p, events_q)
    expected = (a.exp() * (a - b)).sum()
    expected.backward()
    term = CachedTeacherTerm(LogitsKLLoss(inverse=inverse), codes, log_probs.float(), log_rest.float())
    value, gradient = term(student, slice(0, N))
    assert value.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-3)
    torch.testing.assert_close(gradient.double(), wide.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("inverse", [False, True])
def test_a_teacher_that_leaves_nothing_to_the_rest_gives_finite_values(inverse):
    codes = torch.arange(3).expand(N, 3)
    log_probs = torch.full((N, 3), math.log(1 / 3))
    term = CachedTeacherTerm(LogitsKLLoss(inverse=inverse), codes, log_probs, torch.full((N,), -math.inf))
    value, gradient = term(torch.zeros(N, K), slice(0, N))
    assert value.isfinite() and gradient.isfinite().all()
    # All of q's mass of (K - 3) / K has to go to the top: those codes' logits have to sink.
    assert (gradient[:, 3:] > 0).all() and (gradient[:, :3] < 0).all()
    if not inverse:
        assert value.item() / N == pytest.approx(math.log(K / 3), rel=1e-5)  # sum of 1/3 log(1/3 / (1/K))


def test_less_codes_give_a_smaller_divergence_that_is_never_negative():
    torch.manual_seed(0)
    teacher, student = torch.randn(N, K), torch.randn(N, K)
    values = [
        CachedTeacherTerm(LogitsKLLoss(), *top_of(teacher, k, 1.0))(student, slice(0, N))[0].item()
        for k in (1, 4, 16, K)
    ]
    assert values == sorted(values) and values[0] > 0
    equal, _ = CachedTeacherTerm(LogitsKLLoss(), *top_of(teacher, 4, 1.0))(teacher, slice(0, N))
    assert equal.item() == pytest.approx(0, abs=1e-5)


def test_probabilities_rounded_to_float16_are_scaled_to_one():
    torch.manual_seed(0)
    teacher = 3 * torch.randn(N, K)
    codes, log_probs, log_rest = top_of(teacher, 4, 1.0)
    rounded = CachedTeacherTerm(LogitsKLLoss(), codes, log_probs.half(), log_rest.half())
    value, gradient = rounded(teacher, slice(0, N))
    assert 0 <= value.item() / N < 1e-5
    assert gradient.sum(-1).abs().max() < 1e-6, "softmax has no use for a common shift"
