"""The decoder for inference: its weights, and plain functions for prefill, one more token, and a few more tokens.

They compute what ``LLaMA`` computes, with fewer and larger multiplications: one for query, key and value, one for
gate and up, and a table in place of the embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delvm_mm.generation.attention import (
    SharedKeys,
    decode_attention,
    flash_attention,
    flash_takes_masks,
    has_flash_with_lse,
    prefill_attention,
)
from delvm_mm.generation.cache import KVCache
from delvm_mm.generation.linear import PackedLinear
from delvm_mm.generation.native import NativeDecoder, RowPass, has_native

# Rows of a batch are prefilled a few at a time, so that what lies between two layers stays small: no more rows at once
# than attend to this many tokens.
PREFILL_TOKENS = 8192

# Compiled code reads passes of up to so many tokens as a whole; of more, it leaves the products of matrices to oneDNN.
NATIVE_TOKENS = 3

# What a pass of several tokens costs more than one of a single token in every row, as parts of the latter for one row:
# each token more, and once that the weights are read in another layout, or that rows are at different places.
# LLaMA-80M behind 1920 tokens on two cores: 12 ms a token in float32 and 6 in bfloat16, 22 and 14 for 16 tokens. By
# operators alone, one row in float32 has a layout of its own, and rows at different places cost twice as much, as it
# takes passes to bring them together again. Constants, so that drafts do not depend on how busy a machine is.
TOKEN_COST, TOKEN_COST_FLOAT32 = 0.08, 0.06
LAYOUT_COST = 0.1
# Weights that fit a cache of the processor are there sooner than a token is multiplied with them: delvm_mm://mini takes
# 0.7, 1.5, 1.9 ms for 1, 4, 8 tokens behind 1008 in float32, and 0.3, 1.0, 1.3 in bfloat16.
CACHED_BYTES = 64 * 2**20
CACHED_TOKEN_COST, CACHED_TOKEN_COST_FLOAT32 = 0.4, 0.2
CACHED_LAYOUT_COST = 0.5
OPERATOR_TOKEN_COST, OPERATOR_TOKEN_COST_FLOAT32 = 0.05, 0.08
OPERATOR_LAYOUT_COST, OPERATOR_RAGGED_COST = 0.5, 0.3


@dataclass
class LayerWeights:
    """One decoder layer."""

    attention_norm: Tensor
    qkv: PackedLinear
    out: PackedLinear
    mlp_norm: Tensor
    gate_up: PackedLinear
    down: PackedLinear


@dataclass
class Decoder:
    """Embedding table (K x C), layers, head and rotary tables (max_positions x head_dim) in one type.

    ``flash`` says which attention is used, see :mod:`attention`. ``native`` is compiled code for passes of few tokens,
    or None.
    ``sin`` has its first half negated, so that a rotation is ``x * cos + roll(x, head_dim / 2) * sin``.
    """

    table: Tensor
    layers: list[LayerWeights]
    norm: Tensor
    head: PackedLinear
    cos: Tensor
    sin: Tensor
    num_heads: int
    num_kv_heads: int
    norm_eps: float
    flash: bool
    native: NativeDecoder | None = None

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.cos.shape[1]

    @property
    def cache_dtype(self) -> torch.dtype:
        """Type of keys and values: that of the weights, but at least float32 where flash attention on a CPU reads them.

        In bfloat16 it takes three times as long.
        """
        return self.cos.dtype if self.native is None else self.table.dtype

    @property
    def token_cost(self) -> float:
        """What one token more costs in a pass of few, as a part of a pass of one."""
        if self.native is None:
            return OPERATOR_TOKEN_COST_FLOAT32 if self.table.dtype == torch.float32 else OPERATOR_TOKEN_COST
        if self._weights_are_cached:
            return CACHED_TOKEN_COST_FLOAT32 if self.table.dtype == torch.float32 else CACHED_TOKEN_COST
        return TOKEN_COST_FLOAT32 if self.table.dtype == torch.float32 else TOKEN_COST

    @property
    def _weights_are_cached(self) -> bool:
        return self.native.weight_bytes <= CACHED_BYTES

    def drafting_cost(self, batch_size: int) -> float:
        """What drafts cost in a pass beside their tokens, as a part of a pass of one token."""
        if self.native is not None:
            layout_cost = CACHED_LAYOUT_COST if self._weights_are_cached else LAYOUT_COST
            return layout_cost if batch_size <= NATIVE_TOKENS else 0.0
        if batch_size > 1:
            return OPERATOR_RAGGED_COST * (1 + self.token_cost * (batch_size - 1))
        return OPERATOR_LAYOUT_COST if self.head.one_row_is_faster else 0.0

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache for ``batch_size`` sequences of up to ``max_length`` tokens."""
        shape = (len(self.layers), batch_size, self.num_kv_heads, max_length, self.head_dim)
        return KVCache(*shape, dtype=self.cache_dtype, device=self.table.device)

    def cache_bytes(self, max_length: int) -> int:
        """Bytes of keys and values of one sequence of ``max_length`` tokens."""
        return 2 * len(self.layers) * self.num_kv_heads * self.head_dim * self.cache_dtype.itemsize * max_length


@dataclass(frozen=True)
class SharedPrompt:
    """Rows ``start`` to ``stop`` of a batch continue the same prompt, whose keys and values are ``cache`` (batch 1)."""

    start: int
    stop: int
    cache: KVCache

    def layer(self, index: int, dtype: torch.dtype | None = None) -> SharedKeys:
        """Its keys and values in one layer, as they are kept or in another type."""
        keys, values = (x[index].to(dtype or x.dtype) for x in (self.cache.keys, self.cache.values))
        return SharedKeys(self.start, self.stop, keys, values)


@torch.no_grad()
def pack_decoder(
    embedding: nn.Module, backbone: nn.Module, head: nn.Module, dtype: torch.dtype, static: bool = False
) -> Decoder:
    """Copy the weights of a DeLVM's three parts into a :class:`Decoder`.

    Args:
        embedding: Tokens B x L -> B x L x C.
        backbone: A ``LLaMA``.
        head: With a linear ``projection``, C -> K.
        dtype: Type of the copy.
        static: Whether decoding is to be compiled or captured. Defaults to False.

    Returns:
        The copy, without gradients, on the device of the backbone.
    """
    device = backbone.norm.weight.device
    flash = has_flash_with_lse(device) and not static
    rope_dtype = torch.promote_types(dtype, torch.float32) if flash else dtype
    cos, sin = (table.to(device, rope_dtype, non_blocking=True) for table in (backbone.rope_cos, backbone.rope_sin))
    first, second = sin.chunk(2, dim=-1)

    def linear(*layers: nn.Linear) -> PackedLinear:
        return PackedLinear(*layers, dtype=dtype, blocks=not static)

    layers = []
    for layer in backbone.layers:
        attention, mlp = layer.self_attn, layer.mlp
        layers.append(
            LayerWeights(
                attention_norm=layer.input_layernorm.weight.detach().to(dtype),
                qkv=linear(attention.q_proj, attention.k_proj, attention.v_proj),
                out=linear(attention.o_proj),
                mlp_norm=layer.post_attention_layernorm.weight.detach().to(dtype),
                gate_up=linear(mlp.gate_proj, mlp.up_proj),
                down=linear(mlp.down_proj),
            )
        )
    table = embedding(torch.arange(head.num_embeddings, device=device)[None])[0].to(dtype)
    sin = torch.cat((-first, second), dim=-1)
    native = NativeDecoder(backbone, head, table, cos, sin) if flash and has_native(dtype, device) else None
    return Decoder(
        table=table,
        layers=layers,
        norm=backbone.norm.weight.detach().to(dtype),
        head=linear(head.projection),
        cos=cos,
        sin=sin,
        num_heads=backbone.num_heads,
        num_kv_heads=backbone.num_kv_heads,
        norm_eps=backbone.norm.eps,
        flash=flash,
        native=native,
    )


def prefill(decoder: Decoder, tokens: Tensor, cache: KVCache, prompts: Sequence[SharedPrompt] = ()) -> Tensor:
    """Read the first tokens of every row and fill the cache from its first place on.

    Args:
        decoder: The weights.
        tokens: int64, B x L; without the shared prompts.
        cache: For B rows of at least L tokens.
        prompts: What stands before ``tokens``, for all rows or for none.

    Returns:
        B x K, logits of the token that follows.

    Raises:
        ValueError: If the cache has no room for L tokens.
    """
    if tokens.shape[1] > cache.max_length:
        raise ValueError(
            f"the cache holds {cache.max_length} tokens and was asked for {tokens.shape[1]}; make it with a larger "
            "max_length"
        )
    logits = []
    for prompt in prompts or (SharedPrompt(0, len(tokens), None),):
        before = prompt.cache.length if prompt.cache else 0
        rows = max(1, PREFILL_TOKENS // (before + tokens.shape[1]))
        for start in range(prompt.start, prompt.stop, rows):
            stop = min(start + rows, prompt.stop)
            logits.append(_prefill_rows(decoder, tokens[start:stop], cache, start, prompt.cache))
    cache.length = tokens.shape[1]
    return torch.cat(logits)


def _prefill_rows(decoder: Decoder, tokens: Tensor, cache: KVCache, row: int, prompt: KVCache | None) -> Tensor:
    batch, length = tokens.shape
    before = prompt.length if prompt is not None else 0
    attention = flash_attention if decoder.flash else prefill_attention
    rope = tuple(table[before : before + length] for table in (decoder.cos, decoder.sin))
    hidden = decoder.table[tokens]
    for index, layer in enumerate(decoder.layers):
        query, key, value = _project(decoder, layer, hidden, rope)
        cache.keys[index, row : row + batch, :, :length] = key
        cache.values[index, row : row + batch, :, :length] = value
        shared = [SharedPrompt(0, batch, prompt).layer(index, query.dtype)] if before else []
        hidden = _finish(decoder, layer, hidden, _joined(attention(query, key, value, shared)))
    return _logits(decoder, hidden[:, -1])


def decode_one_token(
    decoder: Decoder,
    tokens: Tensor,
    input_pos: Tensor,
    kv_len: int,
    cache: KVCache,
    prompts: Sequence[SharedPrompt] = (),
) -> Tensor:
    """Read one more token in every row.

    Args:
        decoder: The weights.
        tokens: int64, B.
        input_pos: int64, 1: the token's position in the cache. It is a tensor, so that a compiled step or a CUDA
            graph serves every position.
        kv_len: How many positions of the cache to look at: ``input_pos + 1``, or with static shapes all of them.
        cache: Filled before ``input_pos``.
        prompts: As for :func:`prefill`.

    Returns:
        B x K, logits of the token that follows.
    """
    if decoder.native is not None:
        return _decode_native(decoder, tokens, [1] * len(tokens), [kv_len - 1] * len(tokens), cache, prompts)
    position = input_pos + prompts[0].cache.length if prompts else input_pos
    rope = decoder.cos[position], decoder.sin[position]
    if not decoder.flash:
        unseen = torch.arange(kv_len, device=input_pos.device) > input_pos
        mask = torch.zeros(kv_len, dtype=cache.keys.dtype, device=input_pos.device).masked_fill(unseen, float("-inf"))
    hidden = decoder.table[tokens]
    for index, layer in enumerate(decoder.layers):
        query, key, value = _project(decoder, layer, hidden[:, None], rope)
        keys, values = cache.keys[index], cache.values[index]
        keys.index_copy_(2, input_pos, key)
        values.index_copy_(2, input_pos, value)
        keys, values = keys[:, :, :kv_len], values[:, :, :kv_len]
        shared = [prompt.layer(index) for prompt in prompts]
        if decoder.flash:
            out = flash_attention(query, keys, values, shared)
        else:
            out = decode_attention(query, keys, values, mask, shared)
        hidden = _finish(decoder, layer, hidden[:, None], _joined(out))[:, 0]
    return _logits(decoder, hidden)


def decode_tokens(
    decoder: Decoder,
    tokens: Sequence[Sequence[int]],
    starts: Sequence[int],
    cache: KVCache,
    prompts: Sequence[SharedPrompt] = (),
) -> Tensor:
    """Read a few more tokens, in every row as many and from where the row says.

    Args:
        decoder: The weights.
        tokens: Of each of B rows; a row may have none.
        starts: Position in the cache of each row's first token.
        cache: Filled before ``starts``; what lies behind is written over.
        prompts: As for :func:`prefill`.

    Returns:
        T x K, logits of the token that follows each of the T tokens, row by row.
    """
    counts, device = [len(row) for row in tokens], decoder.table.device
    flat = torch.tensor([token for row in tokens for token in row], device=device)
    if decoder.native is not None:
        return _decode_native(decoder, flat, counts, starts, cache, prompts)
    kv_len = max(start + count for start, count in zip(starts, counts, strict=True))
    places = [start + k for start, count in zip(starts, counts, strict=True) for k in range(count)]
    rows = _PaddedRows(counts, device) if len(tokens) > 1 else None
    input_pos = torch.tensor(places, device=device)
    position = input_pos + prompts[0].cache.length if prompts else input_pos
    rope = decoder.cos[position], decoder.sin[position]
    last_seen = rows.pad(input_pos[:, None]).flatten(1) if rows else input_pos[None]  # B x L
    unseen = torch.arange(kv_len, device=device) > last_seen[:, None, :, None]
    mask = torch.zeros(unseen.shape, dtype=cache.keys.dtype, device=device).masked_fill_(unseen, float("-inf"))
    use_flash = decoder.flash and flash_takes_masks()
    hidden = decoder.table[flat][None]
    for index, layer in enumerate(decoder.layers):
        query, key, value = _project(decoder, layer, hidden, rope)
        keys, values = cache.keys[index], cache.values[index]
        if rows is None:
            keys[:, :, places[0] : kv_len] = key
            values[:, :, places[0] : kv_len] = value
        else:
            keys[rows.of_token, :, input_pos] = key[0].transpose(0, 1)
            values[rows.of_token, :, input_pos] = value[0].transpose(0, 1)
            query = rows.pad(query[0].transpose(0, 1)).transpose(1, 2)
        keys, values = keys[:, :, :kv_len], values[:, :, :kv_len]
        shared = [prompt.layer(index) for prompt in prompts]
        if use_flash:
            out = flash_attention(query, keys, values, shared, mask)
        else:
            out = decode_attention(query, keys, values, mask, shared)
        if rows is not None:
            out = rows.unpad(out.transpose(1, 2)).transpose(0, 1)[None]
        hidden = _finish(decoder, layer, hidden, _joined(out))
    return _logits(decoder, hidden[0])


def _decode_native(
    decoder: Decoder,
    tokens: Tensor,
    counts: Sequence[int],
    starts: Sequence[int],
    cache: KVCache,
    prompts: Sequence[SharedPrompt],
) -> Tensor:
    # As decode_tokens, with the tokens of all rows side by side.
    before = [prompt.cache for prompt in prompts for _ in range(prompt.start, prompt.stop)] or [None] * len(counts)
    rows = [
        RowPass(row, count, start, prompt)
        for row, (count, start, prompt) in enumerate(zip(counts, starts, before, strict=True))
        if count
    ]
    native = decoder.native.begin(rows, cache)
    if len(tokens) <= NATIVE_TOKENS:
        return native.decode(tokens)
    hidden = decoder.table[tokens]
    for index, layer in enumerate(decoder.layers):
        packed = layer.qkv(_rms_norm(hidden, layer.attention_norm, decoder.norm_eps))
        hidden = _finish(decoder, layer, hidden, native.attend(index, packed))
    return _logits(decoder, hidden)


class _PaddedRows:
    """T tokens of B rows side by side, and the same with L places for every row, as attention wants them."""

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        length, total = max(counts), sum(counts)
        slots, firsts, first = [], [], 0
        for row, count in enumerate(counts):
            # What is padded repeats the last token, of a row without tokens the last of all; nobody reads it.
            slots += [min(first + min(k, max(count - 1, 0)), total - 1) for k in range(length)]
            firsts += [row * length + k for k in range(count)]
            first += count
        self._shape = len(counts), length
        self._slots, self._firsts = torch.tensor(slots, device=device), torch.tensor(firsts, device=device)
        self.of_token = self._firsts // length

    def pad(self, x: Tensor) -> Tensor:
        """T x ... to B x L x ..."""
        return x[self._slots].unflatten(0, self._shape)

    def unpad(self, x: Tensor) -> Tensor:
        """B x L x ... to T x ..."""
        return x.flatten(0, 1)[self._firsts]


def _project(
    decoder: Decoder, layer: LayerWeights, hidden: Tensor, rope: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    # B x L x C to query (B x H x L x D), key and value (B x G x L x D) in the rotary tables' type; query and key are
    # rotated in one go.
    heads, groups, dims = decoder.num_heads, decoder.num_kv_heads, decoder.head_dim
    cos, sin = rope
    qkv = layer.qkv(_rms_norm(hidden, layer.attention_norm, decoder.norm_eps)).unflatten(-1, (heads + 2 * groups, dims))
    qkv = qkv.to(cos.dtype).transpose(1, 2)
    query_key, value = qkv.split((heads + groups, groups), dim=1)
    rotated = torch.addcmul(query_key * cos, query_key.roll(dims // 2, dims=-1), sin)
    query, key = rotated.split((heads, groups), dim=1)
    return query, key, value


def _joined(attended: Tensor) -> Tensor:
    """B x H x L x D to B x L x (H D)."""
    return attended.transpose(1, 2).flatten(2)


def _finish(decoder: Decoder, layer: LayerWeights, hidden: Tensor, attended: Tensor) -> Tensor:
    # The layer's input and its attention, ... x C and ... x (H D), to its output.
    hidden = hidden + layer.out(attended.to(hidden.dtype))
    gate, up = layer.gate_up(_rms_norm(hidden, layer.mlp_norm, decoder.norm_eps)).chunk(2, dim=-1)
    return hidden + layer.down(F.silu(gate) * up)


def _logits(decoder: Decoder, hidden: Tensor) -> Tensor:
    return decoder.head(_rms_norm(hidden, decoder.norm, decoder.norm_eps))


def _rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    # In float32 whatever the type, as in training; torch.nn.functional.rms_norm needs torch 2.4.
    wide = hidden.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(hidden.dtype)
