"""The steps that recompute in the backward pass against autograd through their written formulas."""

import pytest
import torch
import torch.nn.functional as F

from delvm_mm.models.backbones.fused import gated_linear, rms_norm, rotate


def plain_norm(hidden, weight):
    return F.rms_norm(hidden, (hidden.shape[-1],), weight, 1e-5)


def plain_product(gate, up, weight):
    return (F.silu(gate) * up) @ weight.t()


def rotation(length, dims):
    angle = torch.outer(torch.arange(length, dtype=torch.float64), 10000 ** (-torch.arange(dims / 2) / dims * 2))
    return angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)


def plain_rotation(x):
    first, second = x.chunk(2, -1)
    cos, sin = rotation(x.shape[-2], x.shape[-1])
    return x * cos + torch.cat((-second, first), -1) * sin


@pytest.mark.parametrize(
    ("ours", "plain", "shapes"),
    [
        (lambda x, w: rms_norm(x, w, 1e-5), plain_norm, [(2, 3, 8), (8,)]),
        (gated_linear, plain_product, [(2, 3, 8), (2, 3, 8), (5, 8)]),
        (lambda x: rotate(x, *rotation(5, 8)), plain_rotation, [(2, 3, 5, 8)]),
    ],
    ids=["norm", "product", "rotation"],
)
def test_values_and_gradients_equal_the_formula(ours, plain, shapes):
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    # Norms are computed in float32 whatever the input.
    exact = dict(rtol=1e-5, atol=1e-5) if plain is plain_norm else {}
    out, expected = ours(*inputs), plain(*inputs)
    torch.testing.assert_close(out, expected, **exact)
    grad = torch.randn_like(expected)
    for ours_, theirs in zip(
        torch.autograd.grad(out, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(ours_, theirs, **exact)


def test_a_tracer_sees_the_operations():
    hidden, weight, down = torch.randn(3, 8), torch.ones(8), torch.randn(5, 8)
    cos, sin = (table.float() for table in rotation(3, 8))

    def layer(x):
        return gated_linear(rotate(rms_norm(x, weight, 1e-5), cos, sin), x, down)

    traced = torch.jit.trace(layer, hidden)
    assert "aten::linear" in str(traced.graph) and "PythonOp" not in str(traced.graph)
    torch.testing.assert_close(traced(hidden), layer(hidden))


def test_only_the_inputs_are_kept_for_the_backward_pass():
    kept = []
    hidden, gate, up = (torch.randn(4, 8, requires_grad=True) for _ in range(3))
    weight, down = torch.ones(8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        rms_norm(hidden, weight, 1e-5)
        gated_linear(gate, up, down)
    own = {tensor.data_ptr() for tensor in (hidden, gate, up, weight, down)}
    assert [tuple(tensor.shape) for tensor in kept if tensor.data_ptr() not in own] == [(4, 1)]


def test_bfloat16_stays_bfloat16():
    hidden = torch.randn(4, 8, dtype=torch.bfloat16)
    cos, sin = (table.float() for table in rotation(4, 8))
    assert rms_norm(hidden, torch.ones(8, dtype=torch.bfloat16), 1e-5).dtype == torch.bfloat16
    assert rotate(hidden, cos, sin).dtype == torch.bfloat16
