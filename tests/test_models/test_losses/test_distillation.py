import numpy as np
import pytest
import torch
import torch.nn.functional as F

from delvm_mm.models import LogitsKLLoss, NextTokenHead


@pytest.fixture
def vectors(golden):
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(golden / "losses.npz").items()}


@pytest.mark.parametrize(
    ("key", "arguments"),
    [("kl_t1", {}), ("kl_t2", dict(temperature=2.0)), ("kl_t1_inverse", dict(inverse=True))],
)
def test_kl_equals_the_released_one(vectors, key, arguments):
    loss = LogitsKLLoss(**arguments)(vectors["student"], vectors["teacher"])
    assert loss.item() == pytest.approx(vectors[key].item(), abs=1e-5)


def test_cross_entropy_equals_the_released_one(vectors):
    loss = NextTokenHead(8, 64).loss_from_logits(vectors["student"], vectors["labels"])["loss_ce"]
    assert loss.item() == pytest.approx(vectors["cross_entropy"].item(), abs=1e-5)


def test_kl_is_zero_for_equal_logits_and_scales_with_its_weight():
    student, teacher = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    assert LogitsKLLoss()(student, student).item() == pytest.approx(0, abs=1e-6)
    one, three = LogitsKLLoss()(student, teacher), LogitsKLLoss(loss_weight=3.0)(student, teacher)
    assert three.item() == pytest.approx(3 * one.item(), rel=1e-6)


def test_kl_equals_the_sum_over_codes_of_p_log_p_over_q():
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    by_hand = 4 * (p * (p / q).log()).sum(-1).mean()
    assert LogitsKLLoss(temperature=2.0)(student, teacher).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_gradient_of_kl_is_student_minus_teacher_probability():
    student, teacher = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6)
    LogitsKLLoss()(student, teacher).backward()
    torch.testing.assert_close(student.grad, (student.softmax(-1) - F.softmax(teacher, -1)).detach() / 4)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="temperature is 0"):
        LogitsKLLoss(temperature=0)
    with pytest.raises(ValueError, match="same vocabulary"):
        LogitsKLLoss()(torch.randn(1, 2, 5), torch.randn(1, 2, 6))
