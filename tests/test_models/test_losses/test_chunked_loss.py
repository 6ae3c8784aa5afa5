"""The chunked losses against the plain form: PyTorch's cross-entropy and KL on the logits of the whole batch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from delvm_mm.models import LogitsKLLoss, next_token_losses
from delvm_mm.models.losses.distillation import TeacherTerm
from helpers.reads import Reads

N, C, K = 37, 16, 50


@pytest.fixture
def batch():
    torch.manual_seed(0)
    features = torch.randn(N, C, requires_grad=True)
    weight = torch.randn(K, C, requires_grad=True)
    return features, weight, torch.randint(K, (N,))


@pytest.fixture
def teacher():
    torch.manual_seed(1)
    head = nn.Linear(12, K, bias=False).requires_grad_(False)
    return torch.randn(N, 12), head


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


@pytest.mark.parametrize("chunk_tokens", [1, 8, 37, 1000])
def test_cross_entropy_equals_the_plain_form(batch, chunk_tokens):
    features, weight, labels = batch
    plain = F.cross_entropy(features @ weight.t(), labels)
    chunked = next_token_losses(features, weight, labels, chunk_tokens=chunk_tokens)["loss_ce"]
    torch.testing.assert_close(chunked, plain, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(gradients(chunked, *batch[:2]), gradients(plain, *batch[:2]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_cross_entropy_and_kl_equal_the_plain_form(batch, teacher, temperature, inverse):
    features, weight, labels = batch
    loss = LogitsKLLoss(temperature, inverse, loss_weight=0.7)
    logits = features @ weight.t()
    plain = dict(loss_ce=1.5 * F.cross_entropy(logits, labels), loss_kd=loss(logits, teacher[1](teacher[0])))
    chunked = next_token_losses(features, weight, labels, [TeacherTerm(loss, *teacher)], 8, loss_weight=1.5)
    assert set(chunked) == set(plain)
    for name, value in plain.items():
        torch.testing.assert_close(chunked[name], value, rtol=1e-5, atol=1e-6)
    ours, theirs = (gradients(sum(losses.values()), features, weight) for losses in (chunked, plain))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [(0.5, 1.0), (1.0, 0.0), (0.0, 3.0), (2.0, -0.25), (0.5, 0.5)])
def test_losses_weighed_by_hand_have_the_gradient_of_the_weighed_sum(batch, teacher, weights):
    features, weight, labels = batch
    loss = LogitsKLLoss(temperature=2.0)
    logits = features @ weight.t()
    plain = weights[0] * 1.5 * F.cross_entropy(logits, labels) + weights[1] * loss(logits, teacher[1](teacher[0]))
    losses = next_token_losses(features, weight, labels, [TeacherTerm(loss, *teacher)], 8, loss_weight=1.5)
    chunked = weights[0] * losses["loss_ce"] + weights[1] * losses["loss_kd"]
    for ours, theirs in zip(gradients(chunked, features, weight), gradients(plain, features, weight), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_one_of_several_losses_has_its_own_gradient(batch, teacher):
    features, weight, labels = batch
    losses = next_token_losses(features, weight, labels, [TeacherTerm(LogitsKLLoss(), *teacher)], 8)
    ours = gradients(losses["loss_ce"], features, weight)
    theirs = gradients(F.cross_entropy(features @ weight.t(), labels), features, weight)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-6)


def test_losses_weighed_equally_are_computed_once(batch, teacher):
    calls, term = [], TeacherTerm(LogitsKLLoss(), *teacher)

    class Counted:
        name = "loss_kd"

        def __call__(self, logits, rows):
            calls.append(rows)
            return term(logits, rows)

    def run(weigh):
        losses = next_token_losses(*batch, [Counted()], chunk_tokens=N)
        weigh(losses).backward()
        return len(calls)

    assert run(lambda losses: sum(losses.values()) / 4) == 1
    assert run(lambda losses: losses["loss_ce"] + 0.5 * losses["loss_kd"]) == 3


def test_losses_weighed_under_autocast_are_computed_in_its_type(batch, teacher):
    features, weight, labels = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        term = TeacherTerm(LogitsKLLoss(), F.linear(teacher[0], torch.eye(12)), teacher[1])
        losses = next_token_losses(features, weight, labels, [term], chunk_tokens=8)
        logits = F.linear(features, weight).float()
        plain = F.cross_entropy(logits, labels) + 0.5 * term.loss(logits, teacher[1](term.features))
    chunked = losses["loss_ce"] + 0.5 * losses["loss_kd"]
    for ours, theirs in zip(gradients(chunked, features, weight), gradients(plain, features, weight), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=3e-2, atol=2e-3)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_stay_right_where_a_distribution_is_almost_certain(teacher, inverse):
    logits = torch.zeros(4, K, dtype=torch.float32)
    logits[0, 3], logits[1, 3], logits[2, :] = 90.0, -90.0, torch.linspace(-40, 40, K)
    theirs = torch.zeros(4, K)
    theirs[0, 5], theirs[3, 0] = 60.0, 80.0
    loss = LogitsKLLoss(inverse=inverse)
    value, gradient = loss.sum_and_gradient(logits, theirs)
    exact = logits.double().requires_grad_()
    p, q = F.log_softmax(theirs.double(), -1), F.log_softmax(exact, -1)
    first, second = (q, p) if inverse else (p, q)
    by_hand = (first.exp() * (first - second)).sum()
    torch.testing.assert_close(value.double(), by_hand.detach(), rtol=1e-5, atol=1e-5)
    (expected,) = torch.autograd.grad(by_hand, exact)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-5)


def test_a_loss_without_a_closed_form_is_differentiated(batch, teacher):
    class SquaredDistance(nn.Module):
        def forward(self, student, teacher):
            return (student - teacher).square().sum(-1).mean()

    features, weight, labels = batch
    logits = features @ weight.t()
    plain = F.cross_entropy(logits, labels) + 0.5 * SquaredDistance()(logits, teacher[1](teacher[0]))
    terms = [TeacherTerm(SquaredDistance(), *teacher, factor=0.5)]
    chunked = sum(next_token_losses(features, weight, labels, terms, chunk_tokens=10).values())
    torch.testing.assert_close(chunked, plain, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients(chunked, features, weight), gradients(plain, features, weight), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_scaled_loss_scales_the_gradient(batch):
    features, weight, labels = batch
    once, scaled = (
        gradients(scale * next_token_losses(features, weight, labels)["loss_ce"], features)[0] for scale in (1, 1024)
    )
    torch.testing.assert_close(scaled, 1024 * once)


def test_half_precision_scales_after_the_product(batch):
    # p / N of a large batch is below float16's smallest number; p is not.
    features, weight, labels = (tensor.detach() for tensor in batch)
    features, weight = features.half().requires_grad_(), weight.half().requires_grad_()
    loss = next_token_losses(features, weight, labels)["loss_ce"]
    ours = gradients(65536 * loss, weight)[0]
    exact = batch[1].detach().half().float().requires_grad_()
    (theirs,) = gradients(65536 * F.cross_entropy(features.detach().float() @ exact.t(), labels), exact)
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-2, atol=16.0)


def test_autocast_multiplies_in_its_type_and_keeps_losses_in_float32(batch):
    features, weight, labels = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = next_token_losses(features, weight, labels, chunk_tokens=8)["loss_ce"]
        plain = F.cross_entropy(F.linear(features, weight).float(), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients(loss, features, weight), gradients(plain, features, weight), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=3e-2, atol=1e-3)


def test_no_tensor_of_the_whole_batch_times_the_codes_is_made():
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    Largest.elements = max(Largest.elements, tensor.numel())
            return out

    features, weight = torch.randn(512, 8, requires_grad=True), torch.randn(300, 8, requires_grad=True)
    head = nn.Linear(8, 300, bias=False).requires_grad_(False)
    term = TeacherTerm(LogitsKLLoss(), torch.randn(512, 8), head)
    with Largest():
        losses = next_token_losses(features, weight, torch.randint(300, (512,)), [term], chunk_tokens=64)
        sum(losses.values()).backward()
    assert Largest.elements <= 64 * 300


def test_without_gradients_none_are_computed(batch):
    features, weight, labels = batch
    with torch.no_grad():
        loss = next_token_losses(features, weight, labels)["loss_ce"]
    assert not loss.requires_grad
    torch.testing.assert_close(loss, F.cross_entropy(features @ weight.t(), labels).detach())


def test_two_losses_of_one_name_are_refused(batch, teacher):
    term = TeacherTerm(LogitsKLLoss(), *teacher)
    with pytest.raises(ValueError, match="names of their own"):
        next_token_losses(*batch, [term, term])


@pytest.mark.parametrize(
    ("weigh", "reads"),
    [
        (lambda losses: 1024 * sum(losses.values()), False),
        (lambda losses: losses["loss_ce"] + 0.5 * losses["loss_kd"], True),
    ],
    ids=["a plain sum", "weighed by hand"],
)
def test_the_backward_pass_reads_values_only_where_losses_are_weighed(batch, teacher, weigh, reads):
    total = weigh(next_token_losses(*batch, [TeacherTerm(LogitsKLLoss(), *teacher)], 8))
    with Reads() as seen:
        total.backward()
    assert (seen.count > 0) is reads
