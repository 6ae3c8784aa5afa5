import pytest
import torch

from delvm_mm.generation.attention import (
    SharedKeys,
    decode_attention,
    flash_attention,
    has_flash_with_lse,
    prefill_attention,
)

HEADS, DIMS, BEFORE = 3, 8, 11


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def prompts():
    """Rows 0 to 2 continue one prompt, row 3 another."""
    return [
        SharedKeys(start, stop, random(1, HEADS, BEFORE, DIMS + start)[..., :DIMS], random(1, HEADS, BEFORE, DIMS))
        for start, stop in ((0, 3), (3, 4))
    ]


def reference(query, keys, values, shared):
    """Softmax over the prompt's keys and the row's own up to the query's, written out in float64."""
    rows = []
    for row in range(len(query)):
        prompt = [p for p in shared if p.start <= row < p.stop]
        key = torch.cat([*(p.keys[0] for p in prompt), keys[row]], dim=1).double()
        value = torch.cat([*(p.values[0] for p in prompt), values[row]], dim=1).double()
        scores = query[row].double() @ key.transpose(1, 2) / DIMS**0.5
        hidden = torch.ones(scores.shape[1:]).triu(scores.shape[2] - scores.shape[1] + 1).bool()
        rows.append(scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value)
    return torch.stack(rows).float()


@pytest.mark.parametrize("shared", [[], prompts()], ids=["alone", "two prompts"])
@pytest.mark.parametrize("length", [1, 5])
def test_flash_attention_sees_the_prompt_and_the_rows_own_past(shared, length):
    if not has_flash_with_lse(torch.device("cpu")):
        pytest.skip("this torch has no such operator")
    query, keys, values = random(4, HEADS, length, DIMS), random(4, HEADS, 5, DIMS), random(4, HEADS, 5, DIMS + 1)
    out = flash_attention(query, keys, values[..., :DIMS], shared)
    torch.testing.assert_close(out, reference(query, keys, values[..., :DIMS], shared))


@pytest.mark.parametrize("shared", [[], prompts()], ids=["alone", "two prompts"])
def test_public_operators_give_the_same_prefill(shared):
    query, keys, values = (random(4, HEADS, 5, DIMS + extra)[..., :DIMS] for extra in range(3))
    out = prefill_attention(query, keys, values, shared)
    torch.testing.assert_close(out, reference(query, keys, values, shared))


@pytest.mark.parametrize("shared", [[], prompts()], ids=["alone", "two prompts"])
def test_the_static_form_leaves_out_what_the_mask_hides(shared):
    query, keys, values = random(4, HEADS, 1, DIMS), random(4, HEADS, 9, DIMS), random(4, HEADS, 9, DIMS + 1)[..., 1:]
    mask = torch.zeros(9).index_fill(0, torch.arange(5, 9), float("-inf"))
    out = decode_attention(query, keys, values, mask, shared)
    torch.testing.assert_close(out, reference(query, keys[:, :, :5], values[:, :, :5], shared))


def test_scores_that_differ_a_lot_are_merged_without_overflow():
    if not has_flash_with_lse(torch.device("cpu")):
        pytest.skip("this torch has no such operator")
    query, keys, values = 40 * random(4, HEADS, 1, DIMS), 40 * random(4, HEADS, 5, DIMS), random(4, HEADS, 5, DIMS)
    out = flash_attention(query, keys, values, prompts())
    torch.testing.assert_close(out, reference(query, keys, values, prompts()), atol=1e-4, rtol=1e-4)
