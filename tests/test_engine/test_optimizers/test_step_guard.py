"""Steps that are not finite: skipped as if they had never been, whatever optimizer and precision."""

import copy
import math

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from delvm_mm.engine import AutocastOptimWrapper
from delvm_mm.engine.optimizers import step_guard
from delvm_mm.engine.optimizers.step_guard import guard_steps, unguard_steps

X = torch.linspace(-1, 1, 12).view(3, 4)
CLIP = dict(max_norm=0.5)


def finite(model):
    return model(X).square().mean()


BAD = {
    "the loss is nan": lambda model: finite(model) * float("nan"),
    "the loss is infinite and its gradient is not": lambda model: finite(model) + float("inf"),
    "the gradient is infinite and the loss is not": lambda model: (model.weight * 0).abs().sqrt().sum(),
    "only the norm of the gradient is infinite": lambda model: 1e30 * model.weight.sum(),
}
OPTIMIZERS = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
    "fused AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
}


def trained(losses, optimizer="AdamW", wrapper=OptimWrapper, guarded=True, **options):
    """Weights, optimizer state and skipped steps after these losses."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    wrapper = wrapper(optimizer=OPTIMIZERS[optimizer](model.parameters()), **options)
    if guarded:
        guard_steps(wrapper)
    skipped = []
    for loss in losses:
        with wrapper.optim_context(model):
            value = loss(model)
        wrapper.update_params(value)
        if guarded and wrapper.stepped:
            skipped.append(wrapper.take_outcome())
    return copy.deepcopy(model.state_dict()), copy.deepcopy(wrapper.optimizer.state_dict()), skipped


def assert_same(one, other):
    for key, value in one[0].items():
        assert torch.equal(value, other[0][key]), key
    for number, state in one[1]["state"].items():
        for key, value in state.items():
            equal = value is other[1]["state"][number][key] or torch.equal(value, other[1]["state"][number][key])
            assert equal, (number, key)


@pytest.mark.parametrize("clip", [CLIP, None], ids=["clipped", "not clipped"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("bad", BAD)
def test_a_step_that_is_not_finite_leaves_no_trace(bad, optimizer, clip):
    *_, skipped = guarded = trained([finite, BAD[bad], finite, finite], optimizer, clip_grad=clip)
    assert_same(guarded, trained([finite, finite, finite], optimizer, guarded=False, clip_grad=clip))
    assert [step is not None for step in skipped] == [False, True, False, False]
    assert not math.isfinite(skipped[1].grad_norm)
    assert skipped[1].own_loss == ("loss is nan" in bad or "loss is infinite" in bad)


@pytest.mark.parametrize("bad", BAD)
def test_a_fused_optimizer_can_be_told_on_the_device(monkeypatch, bad):
    # On CUDA this is how it is done; the fused step of the CPU reads found_inf just so.
    monkeypatch.setattr(step_guard, "_takes_found_inf", lambda *_: True)
    *_, skipped = guarded = trained([finite, BAD[bad], finite], "fused AdamW", clip_grad=CLIP)
    assert_same(guarded, trained([finite, finite], "fused AdamW", guarded=False, clip_grad=CLIP))
    assert [step is not None for step in skipped] == [False, True, False]


@pytest.mark.parametrize("place", [0, 1])
def test_an_accumulated_step_is_dropped_whole(place):
    bad = [finite, finite]
    bad[place] = BAD["the loss is nan"]
    options = dict(clip_grad=CLIP, accumulative_counts=2)
    *_, skipped = guarded = trained([finite, finite, *bad, finite, finite], **options)
    assert_same(guarded, trained([finite] * 4, guarded=False, **options))
    assert [step is not None for step in skipped] == [False, True, False]


def test_mixed_precision_in_bfloat16_is_guarded_too():
    *_, skipped = guarded = trained([finite, BAD["the loss is nan"]], wrapper=AutocastOptimWrapper)
    assert_same(guarded, trained([finite], wrapper=AutocastOptimWrapper, guarded=False))
    assert skipped[1].own_loss


@pytest.mark.parametrize("clip", [CLIP, None], ids=["clipped", "not clipped"])
@pytest.mark.parametrize("optimizer", ["AdamW", "fused AdamW"])
def test_the_search_of_a_loss_scaler_is_told_from_a_bad_loss(monkeypatch, optimizer, clip):
    # MMEngine's wrapper asks for a GPU; PyTorch's scaler works on the CPU as well.
    module = "mmengine.optim.optimizer.amp_optimizer_wrapper"
    monkeypatch.setattr(f"{module}.is_cuda_available", lambda: True)
    monkeypatch.setattr(f"{module}.GradScaler", lambda **options: torch.amp.GradScaler("cpu", **options))
    monkeypatch.setattr(AmpOptimWrapper, "optim_context", OptimWrapper.optim_context)
    # At 2^127 a gradient is infinite once, at 2^126 no more: 3 x 2^126 is beyond float32's 2^128, half of it is not.
    options = dict(wrapper=AmpOptimWrapper, loss_scale=dict(init_scale=2.0**127), clip_grad=clip)
    steep = lambda model: 3 * model.weight.sum()  # noqa: E731
    *_, skipped = guarded = trained([steep, steep, BAD["the loss is nan"], steep], optimizer, **options)
    assert [step and step.scale_search for step in skipped] == [True, None, False, None]
    assert_same(guarded, trained([steep, steep], optimizer, guarded=False, clip_grad=clip))


def test_a_wrapper_is_given_back_as_it_was():
    model = nn.Linear(4, 2)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), clip_grad=CLIP)
    unguard_steps(guard_steps(wrapper))
    assert type(wrapper) is OptimWrapper
    wrapper.update_params(BAD["the loss is nan"](model))
    assert model.weight.isnan().all()


class CountingOptimWrapper(OptimWrapper):
    """A wrapper of a user's own, with its own clipping."""

    clipped = 0

    def _clip_grad(self):
        self.clipped += 1
        super()._clip_grad()


def test_what_holds_a_wrapper_or_overrides_it_goes_on():
    model = nn.Linear(4, 2)
    wrapper = CountingOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), clip_grad=CLIP)
    step = wrapper.step
    assert guard_steps(wrapper) is wrapper and isinstance(wrapper, CountingOptimWrapper)
    BAD["only the norm of the gradient is infinite"](model).backward()
    before = model.weight.clone()
    step()  # a method that was taken before, as MMEngine's schedulers take it
    assert torch.equal(model.weight, before) and wrapper.clipped == 1


def test_a_wrapper_that_has_no_part_in_a_step_was_not_stepped():
    wrapper = guard_steps(OptimWrapper(torch.optim.SGD(nn.Linear(4, 2).parameters(), lr=0.1)))
    assert not wrapper.stepped


@pytest.mark.parametrize("optimizer", ["AdamW", "fused AdamW"])
def test_a_part_of_the_gradient_that_is_bad_elsewhere_stops_the_step_here(monkeypatch, optimizer):
    # With shards the norm that this process sees may be finite; the others' verdict comes with the largest flag.
    asked = []

    def all_reduce(flag, op):
        asked.append((flag.item(), op))
        flag.fill_(1.0)

    monkeypatch.setattr(step_guard, "all_reduce", all_reduce)
    model = nn.Linear(4, 2)
    wrapper = guard_steps(OptimWrapper(OPTIMIZERS[optimizer](model.parameters()), clip_grad=CLIP), reduce=True)
    before = model.weight.clone()
    wrapper.update_params(finite(model))
    assert asked == [(0.0, "max")] and torch.equal(model.weight, before)
    assert math.isfinite(wrapper.take_outcome().grad_norm)
