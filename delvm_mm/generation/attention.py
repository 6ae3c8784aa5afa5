"""Attention of rows that continue prompts: each row sees its own keys and those of the prompt that it shares.

Shapes: B rows, H heads of queries, G heads of keys and values (each serves the H / G next query heads), L queries of a
row, n keys of its own, P keys of a prompt, D channels of a head.
"""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class SharedKeys:
    """Keys and values (1 x G x P x D) of the prompt that rows ``start`` to ``stop`` of a batch continue."""

    start: int
    stop: int
    keys: Tensor
    values: Tensor


def has_flash_with_lse(device: torch.device) -> bool:
    """Whether :func:`flash_attention` runs here. Its operator is no public interface, though as old as torch 2.1."""
    return device.type == "cpu" and hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")


@functools.cache
def flash_takes_masks() -> bool:
    """Whether :func:`flash_attention` takes a mask, as from torch 2.3 on."""
    if not hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu"):
        return False
    schema = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default._schema
    return any(argument.name == "attn_mask" for argument in schema.arguments)


def flash_attention(
    query: Tensor, keys: Tensor, values: Tensor, shared: list[SharedKeys] = (), mask: Tensor | None = None
) -> Tensor:
    """Attention on a CPU, causal among the row's own tokens, that reads a shared prompt once for all its rows.

    The rows of a prompt are laid end to end as one sequence of queries. The two softmaxes, over the prompt and over
    the row's own keys, are then merged by their log-sum-exps.

    Args:
        query: float32 or float64, B x H x L x D.
        keys: B x G x n x D; n is L, or L is 1, or there is a mask.
        values: The same shape.
        shared: The prompts, of all rows or of none.
        mask: B x 1 x L x n in the queries' type, added to the scores of the row's own keys: 0 where a query sees a
            key, minus infinity elsewhere; see :func:`flash_takes_masks`.

    Returns:
        B x H x L x D.
    """
    out, lse = _flash(query, keys, values, mask is None and query.shape[2] > 1, mask)
    parts = []
    for prompt in shared:
        rows = slice(prompt.start, prompt.stop)
        count, heads, length, dims = query[rows].shape
        folded = query[rows].transpose(0, 1).reshape(1, heads, count * length, dims)
        before, lse_before = _flash(folded, prompt.keys, prompt.values, False)
        before, lse_before = (x.reshape(heads, count, length, -1).transpose(0, 1) for x in (before, lse_before))
        parts.append(torch.lerp(out[rows], before, torch.sigmoid(lse_before - lse[rows].unsqueeze(-1))))
    return torch.cat(parts) if parts else out


def _flash(
    query: Tensor, keys: Tensor, values: Tensor, is_causal: bool, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    # B x H x L x D and the log-sum-exp of the scores, B x H x L.
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    if mask is not None:
        flash = functools.partial(flash, attn_mask=mask.repeat(1, 1, query.shape[1] // keys.shape[1], 1))
    batch, heads, length, dims = query.shape
    if heads == keys.shape[1]:
        return flash(query, keys, values, 0.0, is_causal)
    if is_causal:
        return flash(query, *_repeated(heads, keys, values), 0.0, True)
    # Heads that share keys are laid end to end as one sequence of queries, so that keys are read once.
    out, lse = flash(query.reshape(batch, keys.shape[1], -1, dims), keys, values, 0.0, False)
    return out.reshape(batch, heads, length, dims), lse.reshape(batch, heads, length)


def _repeated(heads: int, *keys: Tensor) -> list[Tensor]:
    """Keys or values (... x G x n x D) for every head of the queries (... x H x n x D)."""
    return [x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1) for x in keys]


def prefill_attention(query: Tensor, keys: Tensor, values: Tensor, shared: list[SharedKeys] = ()) -> Tensor:
    """As :func:`flash_attention` with L = n, by public operators on any device; the prompt is copied for every row."""
    heads = query.shape[1]
    keys, values = _repeated(heads, keys, values)
    if not shared:
        return F.scaled_dot_product_attention(query, keys, values, is_causal=True)
    length, before = query.shape[2], shared[0].keys.shape[2]
    mask = torch.ones(length, before + length, dtype=torch.bool, device=query.device).tril(before)
    parts = []
    for prompt in shared:
        rows = slice(prompt.start, prompt.stop)
        count = prompt.stop - prompt.start
        shown, told = (x.expand(count, -1, -1, -1) for x in _repeated(heads, prompt.keys, prompt.values))
        key, value = torch.cat((shown, keys[rows]), dim=2), torch.cat((told, values[rows]), dim=2)
        parts.append(F.scaled_dot_product_attention(query[rows], key, value, attn_mask=mask))
    return torch.cat(parts)


def decode_attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, shared: list[SharedKeys] = ()
) -> Tensor:
    """Attention of few queries a row with static shapes, for a compiler or a CUDA graph, on any device.

    Args:
        query: B x H x L x D.
        keys: B x G x n x D, filled or not.
        values: The same shape.
        mask: n, or B x 1 x L x n, added to the scores: 0 where a key is to be seen, minus infinity elsewhere.
        shared: The prompts, of all rows or of none; each is read once for all its rows.

    Returns:
        B x H x L x D.
    """
    batch, heads, length, dims = query.shape
    groups = keys.shape[1]
    # The heads that share keys take the place that a sequence of queries usually has: B x G x (H/G L) x D.
    query = query.reshape(batch, groups, -1, dims) * dims**-0.5
    if mask.ndim > 1:
        mask = mask.repeat(1, 1, heads // groups, 1)
    scores = query @ keys.transpose(2, 3) + mask
    if not shared:
        return (scores.softmax(-1) @ values).reshape(batch, heads, length, dims)
    before = shared[0].keys.shape[2]
    # And of rows that share a prompt the rows, too: G x (b H/G L) x D against G x P x D.
    folded = [_fold(query[p.start : p.stop]) @ p.keys[0].transpose(1, 2) for p in shared]
    scores = torch.cat((_unfold(torch.cat(folded, dim=1), batch), scores), dim=-1)
    weights = scores.softmax(-1)
    folded = [_fold(weights[p.start : p.stop, ..., :before]) @ p.values[0] for p in shared]
    out = weights[..., before:] @ values + _unfold(torch.cat(folded, dim=1), batch)
    return out.reshape(batch, heads, length, dims)


def _fold(x: Tensor) -> Tensor:
    """B x G x q x D to G x (B q) x D."""
    return x.transpose(0, 1).flatten(1, 2)


def _unfold(x: Tensor, batch: int) -> Tensor:
    """G x (B q) x D to B x G x q x D."""
    return x.unflatten(1, (batch, -1)).transpose(0, 1)
