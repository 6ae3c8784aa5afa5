"""Attention of rows that continue prompts: each row sees its own keys and those of the prompt that it shares.

Shapes: B rows, H heads, L queries of a row, n keys of its own, P keys of a prompt, D channels of a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class SharedKeys:
    """Keys and values (1 x H x P x D) of the prompt that rows ``start`` to ``stop`` of a batch continue."""

    start: int
    stop: int
    keys: Tensor
    values: Tensor


def has_flash_with_lse(device: torch.device) -> bool:
    """Whether :func:`flash_attention` runs here. Its operator is no public interface, though as old as torch 2.1."""
    return device.type == "cpu" and hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")


def flash_attention(query: Tensor, keys: Tensor, values: Tensor, shared: list[SharedKeys] = ()) -> Tensor:
    """Attention on a CPU, causal among the row's own tokens, that reads a shared prompt once for all its rows.

    The rows of a prompt are laid end to end as one sequence of queries. The two softmaxes, over the prompt and over
    the row's own keys, are then merged by their log-sum-exps.

    Args:
        query: float32, B x H x L x D.
        keys: B x H x n x D; n is L, or L is 1.
        values: The same shape.
        shared: The prompts, of all rows or of none.

    Returns:
        B x H x L x D.
    """
    out, lse = _flash(query, keys, values, query.shape[2] > 1)
    parts = []
    for prompt in shared:
        rows = slice(prompt.start, prompt.stop)
        count, heads, length, dims = query[rows].shape
        folded = query[rows].transpose(0, 1).reshape(1, heads, count * length, dims)
        before, lse_before = _flash(folded, prompt.keys, prompt.values, False)
        before, lse_before = (x.view(heads, count, length, -1).transpose(0, 1) for x in (before, lse_before))
        parts.append(torch.lerp(out[rows], before, torch.sigmoid(lse_before - lse[rows].unsqueeze(-1))))
    return torch.cat(parts) if parts else out


def _flash(query: Tensor, keys: Tensor, values: Tensor, is_causal: bool) -> tuple[Tensor, Tensor]:
    # B x H x L x D and the log-sum-exp of the scores, B x H x L.
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, keys, values, 0.0, is_causal)


def prefill_attention(query: Tensor, keys: Tensor, values: Tensor, shared: list[SharedKeys] = ()) -> Tensor:
    """As :func:`flash_attention` with L = n, by public operators on any device; the prompt is copied for every row."""
    if not shared:
        return F.scaled_dot_product_attention(query, keys, values, is_causal=True)
    length, before = query.shape[2], shared[0].keys.shape[2]
    mask = torch.ones(length, before + length, dtype=torch.bool, device=query.device).tril(before)
    parts = []
    for prompt in shared:
        rows = slice(prompt.start, prompt.stop)
        count = prompt.stop - prompt.start
        key = torch.cat((prompt.keys.expand(count, -1, -1, -1), keys[rows]), dim=2)
        value = torch.cat((prompt.values.expand(count, -1, -1, -1), values[rows]), dim=2)
        parts.append(F.scaled_dot_product_attention(query[rows], key, value, attn_mask=mask))
    return torch.cat(parts)


def decode_attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, shared: list[SharedKeys] = ()
) -> Tensor:
    """Attention of one query a row with static shapes, for a compiler or a CUDA graph, on any device.

    Args:
        query: B x H x 1 x D.
        keys: B x H x n x D, filled or not.
        values: The same shape.
        mask: n, added to the scores: 0 where a key is to be seen, minus infinity elsewhere.
        shared: The prompts, of all rows or of none; each is read once for all its rows.

    Returns:
        B x H x 1 x D.
    """
    query = query * query.shape[-1] ** -0.5
    scores = query @ keys.transpose(2, 3) + mask
    if not shared:
        return scores.softmax(-1) @ values
    before = shared[0].keys.shape[2]
    # H x b x D against H x P x D: the rows take the place that a sequence of queries usually has.
    folded = [query[p.start : p.stop, :, 0].transpose(0, 1) @ p.keys[0].transpose(1, 2) for p in shared]
    scores = torch.cat((torch.cat(folded, dim=1).transpose(0, 1).unsqueeze(2), scores), dim=-1)
    weights = scores.softmax(-1)
    folded = [weights[p.start : p.stop, :, 0, :before].transpose(0, 1) @ p.values[0] for p in shared]
    return weights[..., before:] @ values + torch.cat(folded, dim=1).transpose(0, 1).unsqueeze(2)
