import pytest
import torch
from torch import nn

from delvm_mm.engine import AutocastOptimWrapper


def test_the_forward_pass_runs_in_bfloat16_and_weights_stay_in_float32():
    model = nn.Linear(4, 4)
    wrapper = AutocastOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    before = model.weight.clone()
    with wrapper.optim_context(model):
        out = model(torch.ones(2, 4))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().sum())
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(model.weight, before - 0.1 * 2)


def test_float16_is_refused_because_it_needs_a_loss_scale():
    with pytest.raises(ValueError, match="AmpOptimWrapper"):
        AutocastOptimWrapper(dtype="float16", optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
