"""Generation: prompts shared between rows, batches that fit into memory, and the loop over tokens."""

import math
import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from delvm_mm.generation.cache import KVCache
from delvm_mm.generation.decoder import (
    Decoder,
    SharedPrompt,
    decode_one_token,
    decode_tokens,
    pack_decoder,
    prefill,
)
from delvm_mm.generation.drafts import Drafter, ImageLayout
from delvm_mm.generation.ensemble import OnToken, Sampler, average_rows
from delvm_mm.generation.prompt_cache import Part, PromptStore, split_batch
from delvm_mm.generation.samplers import is_separable
from delvm_mm.generation.speculation import write_with_drafts
from delvm_mm.generation.steps import CapturedStep
from delvm_mm.hardware import autocast_dtype

# The share of the bound on keys and values that prompts may keep between two calls.
KEPT_SHARE = 1 / 4
# A compiled step always looks at the whole cache; fast kernels want its length to be a multiple of a power of two.
ALIGNMENT = 64


class GenerationEngine:
    """Continues token sequences; keeps a packed copy of the weights and the keys and values of recent prompts.

    Both belong to the weights as they were: they are made anew as soon as a weight has changed, which every call looks
    for. Copies and pickles of an engine are empty.
    """

    def __init__(self) -> None:
        self.clear()

    def __reduce__(self) -> tuple:
        return GenerationEngine, ()

    def clear(self) -> None:
        """Give all memory back."""
        self.decoder: Decoder | None = None
        self.prompts = PromptStore()
        self._made_for: tuple | None = None
        self._compiled: Callable | None = None
        self._captured: CapturedStep | None = None

    def generate(
        self,
        parts: Sequence[nn.Module],
        tokens: Tensor,
        num_tokens: int,
        sampler: Sampler,
        on_token: OnToken | None = None,
        prompt_length: int = 0,
        dtype: torch.dtype | None = None,
        compile: bool = False,
        max_cache_bytes: int | None = None,
        ensemble_size: int = 1,
        layout: ImageLayout | None = None,
    ) -> Tensor:
        """Continue every row of ``tokens``.

        Args:
            parts: Embedding, backbone and head.
            tokens: int64, B x L, L >= 1.
            num_tokens: How many tokens to write.
            sampler: ``logits B x K -> tokens B``.
            on_token: Called with (index, tokens B) after each token, part by part if the batch
                is split.
            prompt_length: How many of the L tokens rows may share; less than L. Defaults to 0.
            dtype: Of the weights; by default autocast's, if on, or their own.
            compile: Whether to compile the step, and on CUDA to capture it. Defaults to False.
            max_cache_bytes: Bound on keys and values, by default :func:`default_cache_bytes`. On CUDA,
                a captured step keeps a copy of its prompt beyond it.
            ensemble_size: How many rows in turn write one continuation, see :func:`average_rows`; ``sampler`` and
                ``on_token`` then have a row for each ensemble, and the rows of one are never split. Defaults to 1.
            layout: Where images lie in the rows: with it, drafts are made of what is near. Compiled steps, ensembles
                and several rows of a sampler that draws in an order of its own go without.

        Returns:
            int64, B x num_tokens; rows of one ensemble are equal.
        """
        written = tokens.new_empty(len(tokens), num_tokens)
        if not written.numel():
            return written
        if ensemble_size > 1:
            sampler, on_token = average_rows(sampler, on_token, ensemble_size)
            # A compiled step reads one prompt: those of an ensemble are read with their rows.
            prompt_length = 0 if compile else prompt_length
        dtype = dtype or autocast_dtype(tokens.device.type) or parts[1].norm.weight.dtype
        # Outside of autocast, whose casts would be repeated for every token: its type becomes that of the weights.
        with torch.inference_mode(), torch.autocast(tokens.device.type, enabled=False):
            decoder = self._decoder_for(parts, dtype, compile)
            bound = default_cache_bytes(tokens.device) if max_cache_bytes is None else max_cache_bytes
            keys = self._prompt_keys(tokens, prompt_length)
            prompt_length = prompt_length if keys[0] is not None else 0
            prompt_bytes = decoder.cache_bytes(prompt_length)
            length = tokens.shape[1] - prompt_length + num_tokens - 1
            if compile:
                length = math.ceil(length / ALIGNMENT) * ALIGNMENT
            row_bytes = decoder.cache_bytes(length)
            separable = len(tokens) == 1 or is_separable(sampler)
            layout = layout if separable and not compile and ensemble_size == 1 else None
            for part in split_batch(keys, row_bytes, prompt_bytes, bound, compile, ensemble_size):
                used = [key for key, _ in part.prompts]
                self.prompts.shrink(bound - len(part.rows) * row_bytes - len(used) * prompt_bytes, keep=used)
                rows = torch.tensor(part.rows).to(tokens.device, non_blocking=True)
                prompts = self._shared_prompts(decoder, part, tokens[rows, :prompt_length])
                permuted = part.rows != sorted(part.rows)
                where = rows, permuted
                drafters = None
                if layout is not None:
                    drafters = Drafter.of_rows(tokens[sorted(part.rows)].tolist(), layout)
                own = tokens[:, prompt_length:]
                self._run(decoder, where, own, length, prompts, sampler, on_token, written, drafters)
            self.prompts.shrink(int(bound * KEPT_SHARE))
        return written

    def _run(
        self,
        decoder: Decoder,
        where: tuple[Tensor, bool],
        tokens: Tensor,
        cache_length: int,
        prompts: list[SharedPrompt],
        sampler: Sampler,
        on_token: OnToken | None,
        written: Tensor,
        drafters: list[Drafter] | None,
    ) -> None:
        # Rows of one prompt lie side by side in the cache; samplers, drafters and callers see them as in the batch.
        # "where" holds the rows, and whether that order is another one. All stays on the device: no step waits for it,
        # but for drafts.
        rows, permuted = where
        in_order = rows.argsort()
        in_cache = in_order.argsort()
        length, num_tokens = tokens.shape[1], written.shape[1]
        step, cache, prompts = self._step_for(decoder, len(rows), cache_length, prompts)
        positions = torch.arange(length + num_tokens, device=tokens.device)

        def read_one(chosen: Tensor, index: int) -> Tensor:
            kv_len = length + index + 1
            logits = step(chosen[in_cache] if permuted else chosen, positions[kv_len - 1 : kv_len], kv_len)
            return logits[in_order] if permuted else logits

        def read(given: list[list[int]], indices: list[int]) -> Tensor:
            if len(set(indices)) == 1 and all(len(row) == 1 for row in given):
                return read_one(torch.tensor(given, device=tokens.device)[:, 0], indices[0])
            to_cache = in_cache.tolist()
            starts = [length + indices[row] for row in to_cache]
            logits = decode_tokens(decoder, [given[row] for row in to_cache], starts, cache, prompts)
            if not permuted:
                return logits
            pieces = logits.split([len(given[row]) for row in to_cache])
            return torch.cat([pieces[row] for row in in_order.tolist()])

        logits = prefill(decoder, tokens[rows], cache, prompts)
        logits = logits[in_order] if permuted else logits
        if drafters is not None:
            costs = decoder.token_cost, decoder.drafting_cost(len(rows))
            answer = write_with_drafts(logits, drafters, read, sampler, num_tokens, *costs, on_token)
        else:
            answer = write_one_by_one(logits, read_one, sampler, num_tokens, on_token)
        written[rows[in_order]] = answer

    def _step_for(
        self, decoder: Decoder, batch: int, length: int, prompts: list[SharedPrompt]
    ) -> tuple[Callable[[Tensor, Tensor, int], Tensor], KVCache, list[SharedPrompt]]:
        # The step ``(tokens B, input_pos 1, kv_len) -> logits`` and the cache and prompts that it reads.
        if self._compiled is None:
            cache = decoder.new_cache(batch, length)
            return lambda *where: decode_one_token(decoder, *where, cache, prompts), cache, prompts
        if decoder.table.device.type == "cuda":
            if self._captured is None or not self._captured.fits(batch, length, prompts):
                self._captured = None  # give its memory back first
                self._captured = CapturedStep(self._compiled, decoder, batch, length, prompts)
            return self._captured, self._captured.cache, self._captured.load(prompts)
        cache = decoder.new_cache(batch, length)
        compiled = self._compiled
        return lambda token, input_pos, _: compiled(decoder, token, input_pos, length, cache, prompts), cache, prompts

    def _prompt_keys(self, tokens: Tensor, prompt_length: int) -> list[bytes | None]:
        # What is compared are the tokens themselves. Prompts that nobody shares and nobody has seen are not worth
        # splitting from their queries, unless a single row may come again with another query.
        if not prompt_length:
            return [None] * len(tokens)
        keys = [row.tobytes() for row in tokens[:, :prompt_length].cpu().numpy()]
        alone = len(keys) > 1 and len(set(keys)) == len(keys) and not any(key in self.prompts for key in keys)
        return [None] * len(keys) if alone else keys

    def _shared_prompts(self, decoder: Decoder, part: Part, tokens: Tensor) -> list[SharedPrompt]:
        shared, start = [], 0
        for key, count in part.prompts:
            if key is not None:
                prompt = tokens[start : start + 1]
                cache = self.prompts.get(key, lambda prompt=prompt: _read_prompt(decoder, prompt))
                shared.append(SharedPrompt(start, start + count, cache))
            start += count
        return shared

    def _decoder_for(self, parts: Sequence[nn.Module], dtype: torch.dtype, compile: bool) -> Decoder:
        weights = [weight for part in parts for weight in (*part.parameters(), *part.buffers())]
        made_for = (dtype, compile, _versions(weights))
        if self._made_for != made_for:
            self.clear()
            self.decoder = pack_decoder(*parts, dtype=dtype, static=compile)
            self._compiled = torch.compile(decode_one_token) if compile else None
            self._made_for = made_for
        return self.decoder


def write_one_by_one(
    logits: Tensor,
    read: Callable[[Tensor, int], Tensor],
    sampler: Sampler,
    num_tokens: int,
    on_token: OnToken | None = None,
) -> Tensor:
    """Write every row's answer, a token a pass.

    Args:
        logits: B x K of the first token.
        read: ``(tokens B, index) -> logits B x K`` of the token that follows that of an index.
        sampler: ``logits B x K -> tokens B``.
        num_tokens: To write in each row.
        on_token: Called with (index, tokens B) after each token.

    Returns:
        int64, B x num_tokens.
    """
    answer = torch.empty(len(logits), num_tokens, dtype=torch.int64, device=logits.device)
    for index in range(num_tokens):
        chosen = sampler(logits)
        answer[:, index] = chosen
        if on_token is not None:
            on_token(index, chosen)
        if index + 1 < num_tokens:
            logits = read(chosen, index)
    return answer


def default_cache_bytes(device: torch.device) -> int:
    """The bound on keys and values: half of a GPU's free memory, or a quarter of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def _read_prompt(decoder: Decoder, tokens: Tensor) -> KVCache:
    cache = decoder.new_cache(1, tokens.shape[1])
    prefill(decoder, tokens, cache)
    return cache


def _versions(weights: list[Tensor]) -> tuple:
    # Addresses and version counters see what optimizers and load_state_dict do. What is written through ``.data``, as
    # by an exponential moving average, they do not see: so the sums, which cost no more than one token.
    counters = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    sums = torch.stack([weight.detach().sum(dtype=torch.float32) for weight in weights])
    return counters, sums.cpu().numpy().tobytes()
