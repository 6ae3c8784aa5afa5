import pytest
import torch
from torch import nn

from delvm_mm.generation.linear import PackedLinear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (1, 1, 24), (5, 24), (2, 7, 24)])
def test_outputs_of_several_layers_stand_side_by_side(shape, blocks, bias):
    torch.manual_seed(0)
    layers = [nn.Linear(24, outputs, bias=bias) for outputs in (16, 6)]
    x = torch.randn(shape)
    with torch.inference_mode():
        out = PackedLinear(*layers, dtype=torch.float32, blocks=blocks)(x)
        torch.testing.assert_close(out, torch.cat([layer(x) for layer in layers], dim=-1))


@pytest.mark.parametrize("blocks", [True, False])
def test_bfloat16_rounds_weights_and_result(blocks):
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 16), torch.randn(3, 24).bfloat16()
    with torch.inference_mode():
        out = PackedLinear(layer, dtype=torch.bfloat16, blocks=blocks)(x)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), layer(x.float()), atol=0.02, rtol=0.02)
