import pytest
import torch
from torch import nn

from delvm_mm.engine import AutocastOptimWrapper
from delvm_mm.engine.optimizers import autocast_optim_wrapper


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_forward_pass_runs_in_bfloat16_where_it_is_fast_and_weights_stay_in_float32(monkeypatch, fast, dtype):
    monkeypatch.setattr(autocast_optim_wrapper, "has_bfloat16", lambda device: fast)
    model = nn.Linear(4, 4)
    wrapper = AutocastOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    before = model.weight.clone()
    with wrapper.optim_context(model):
        out = model(torch.ones(2, 4))
    assert out.dtype == dtype
    wrapper.update_params(out.float().sum())
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(model.weight, before - 0.1 * 2)


def test_float16_is_refused_because_it_needs_a_loss_scale():
    with pytest.raises(ValueError, match="AmpOptimWrapper"):
        AutocastOptimWrapper(dtype="float16", optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
