"""The formula of training's operations against PyTorch's own counter, and against arithmetic."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from delvm_mm.engine.flops import forward_flops_per_token, measure_peak_flops, training_flops_per_token
from delvm_mm.models import DeLVM

ARCH = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96)
BATCH, CONTEXT, CODES = 2, 20, 33


def counted(recompute=False, backward=True):
    """What PyTorch counts for a step of the model itself; it counts all L x L of attention."""
    model = DeLVM(
        tokenizer=None,
        backbone=dict(type="LLaMA", arch=ARCH, max_positions=CONTEXT, with_cp=recompute),
        embedding=dict(type="TokenEmbedding", num_embeddings=CODES),
        head=dict(type="NextTokenHead", num_embeddings=CODES),
    )
    # The fused kernels' backward computes the scores again, which is their business and not the model's.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits = model(torch.randint(CODES, (BATCH, CONTEXT)))
        if backward:
            logits.sum().backward()
    return counter.get_total_flops() / (BATCH * CONTEXT)


def test_the_formula_is_what_pytorch_counts_on_the_model():
    assert forward_flops_per_token(ARCH, CONTEXT, CODES, causal=False) == counted(backward=False)
    assert training_flops_per_token(ARCH, CONTEXT, CODES, causal=False) == counted()


def test_activation_checkpointing_adds_a_forward_pass_of_the_layers():
    expected = training_flops_per_token(ARCH, CONTEXT, CODES, causal=False, recompute=True)
    assert expected == counted(recompute=True)
    assert training_flops_per_token(ARCH, CONTEXT, CODES, causal=False) < expected


def test_causal_attention_counts_the_triangle_with_its_diagonal():
    full = forward_flops_per_token(ARCH, CONTEXT, CODES, causal=False) * CONTEXT
    causal = forward_flops_per_token(ARCH, CONTEXT, CODES) * CONTEXT
    hidden = sum(range(CONTEXT))  # token t does not see the L - 1 - t after it
    assert full - causal == hidden * 4 * ARCH["embed_dims"] * ARCH["num_layers"]


def test_the_published_300m_by_hand():
    # 22 x (4 x 1024^2 + 3 x 1024 x 2816) + 1024 x 8192 weights; 2048 tokens, of which the average sees 1024.5.
    weights = 22 * (4 * 1024**2 + 3 * 1024 * 2816) + 1024 * 8192
    assert training_flops_per_token("300m", 2048, 8192) == 6 * weights + 6 * 22 * 1024 * 2049


def test_a_teacher_adds_its_forward_pass():
    alone = training_flops_per_token("300m", 2048, 8192)
    both = training_flops_per_token("300m", 2048, 8192, teacher="1b")
    assert both - alone == forward_flops_per_token("1b", 2048, 8192)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_the_rate_of_the_fastest_product(monkeypatch, dtype):
    # A product of 9 s that does not count, then 0.25 s and 0.2 s; at 9.6 the 0.4 s are over.
    clock = iter([0.0, 9.0, 9.0, 9.1, 9.35, 9.36, 9.36, 9.56, 9.6])
    monkeypatch.setattr("delvm_mm.engine.flops.time.perf_counter", lambda: next(clock))
    peak = measure_peak_flops(dtype, seconds=0.4)
    assert peak.flops == pytest.approx(2 * 1024**3 / 0.2) and (peak.size, peak.dtype) == (1024, dtype)
