"""What a :class:`DeLVM` does when it is asked: prompts answered, sentences scored, tokens continued."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from delvm_mm.generation import ImageLayout, TokenSampler
from delvm_mm.generation.samplers import CodeSampler
from delvm_mm.models.prompt_ensemble import PromptEnsemble, answer_fields, check_fits_context, prompt_tokens
from delvm_mm.models.tokenizers.images import decode_images, to_float
from delvm_mm.registry import TASK_UTILS
from delvm_mm.structures import DataSample


class AnsweringMixin:
    """The part of :class:`DeLVM` that reads prompts and writes answers; the model itself is the other class's."""

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[DataSample] | None = None) -> list[DataSample]:
        """Answer prompts with an image each, or score sentences, or prompts with their answer, token by token.

        An image that comes again, such as those of a fixed prompt, is encoded once; prompts that rows have in common,
        or that came before, are read once. With an ``ensemble`` the pairs become several prompts.

        Args:
            inputs: Prompts, float B x (2P + 1) x 3 x H x W in [0, 1]; prompts with their answer, B x (2P + 2) x ...; or
                sentences, int64 B x L.
            data_samples: Filled and returned.

        Returns:
            For prompts ``pred_image`` (uint8, H x W x 3, RGB), ``pred_tokens`` (int64, h·w)
            and, where the sample has a ``label_image``, ``ceiling_image`` and ``query_ceiling_image``: the truth and
            the query after tokenizer and back. Where an ensemble writes an answer for each of E prompts,
            ``pred_images`` (uint8, E x H x W x 3), ``combine``, ``pred_tokens`` (int64, E x h·w), and their mean as
            ``pred_image``.
            For sentences ``tokens`` (L), ``token_nll`` (float32, L - 1) and ``token_correct`` (bool, L - 1), on the
            CPU, as all of these; for prompts with their answer ``clip_shape`` too.

        Raises:
            ValueError: Prompts have another shape, there is no tokenizer to read them, or the pairs do not make the
                ensemble or do not fit the context.
        """
        samples = data_samples or [DataSample() for _ in range(len(inputs))]
        if inputs.ndim == 2:
            return self._score(inputs, samples)
        if inputs.ndim == 5 and inputs.shape[1] % 2 == 0 and inputs.shape[1]:
            return self._score_answered(inputs, samples)
        if inputs.ndim != 5 or inputs.shape[1] % 2 == 0:
            raise ValueError(
                f"a prompt has the shape {tuple(inputs.shape)}, expected B x (2P + 1) x 3 x H x W: P pairs of image "
                "and annotation, and the query"
            )
        tokenizer = self._need_tokenizer()
        batch, _, _, height, width = inputs.shape
        grid = tokenizer.grid_of(height, width)
        tokens = prompt_tokens(inputs, partial(self._memo.encode, tokenizer), self.ensemble)
        queries = tokens[:, 0, -1]
        answers = self._answer(tokens, grid)
        images = decode_images(tokenizer, answers.flatten(0, 1), grid)
        for number, (sample, rows) in enumerate(zip(samples, answers.cpu(), strict=True)):
            sample.set_data(answer_fields(rows, images[number * len(rows) : (number + 1) * len(rows)], self.ensemble))
        truths = [sample.label_image for sample in samples if "label_image" in sample]
        if len(truths) == batch:
            labels = torch.stack([torch.as_tensor(truth).permute(2, 0, 1) for truth in truths])
            labels = labels.to(inputs.device, non_blocking=True)
            ceilings = decode_images(tokenizer, tokenizer.encode(to_float(labels)), grid)
            queries = decode_images(tokenizer, queries, grid)
            for sample, image, query in zip(samples, ceilings, queries, strict=True):
                sample.set_data(dict(ceiling_image=image, query_ceiling_image=query))
        return samples

    @contextmanager
    def sampling(
        self, sampler: Mapping[str, Any] | None, ensemble: int | Mapping[str, Any] | PromptEnsemble | None = None
    ) -> Iterator[None]:
        """Let ``predict`` answer in another way for a while, such as that of a task.

        Args:
            sampler: Arguments of a :class:`TokenSampler` that replace the model's own of the same names; None for none.
            ensemble: Of prompts, where the model has none of its own.
        """
        own = self.sampler, self.ensemble
        self.sampler = self.sampler | dict(sampler or {})
        self.ensemble = PromptEnsemble.of(ensemble) if self.ensemble is None else self.ensemble
        try:
            yield
        finally:
            self.sampler, self.ensemble = own

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        num_tokens: int,
        sampler: dict | Callable[[Tensor], Tensor] | None = None,
        on_token: Callable[[int, Tensor], None] | None = None,
        prompt_length: int = 0,
        dtype: torch.dtype | str | None = None,
        compile: bool | None = None,
        max_cache_bytes: int | None = None,
        ensemble_size: int = 1,
        draft: str | None = None,
        grid: tuple[int, int] | None = None,
    ) -> Tensor:
        """Continue token sequences with a key/value cache. Special ids are never written.

        The first call after a change of weights packs a copy of them, of the size of the weights in ``dtype``, which
        stays until training goes on.

        Args:
            tokens: int64, B x L, L >= 1.
            num_tokens: How many tokens to write.
            sampler: A :class:`TokenSampler`, its arguments, or any ``logits B x K ->
                tokens B``. Defaults to the model's own, which is greedy unless configured.
            on_token: Called with (index, tokens B) after each token. A batch that does not fit
                into ``max_cache_bytes`` is written in parts, one after another, each with its own B.
            prompt_length: How many of the L tokens are a prompt that other rows or later calls may share. It is
                read once for all of them, and its keys and values are kept for a while. Defaults to 0.
            dtype: Type of the weights while generating, such as 'bfloat16'. Defaults to
                the model's ``generation``, then to autocast's type where it is on, then to that of the weights.
            compile: Compile the step of one token and capture it in a CUDA graph. The first call then takes a minute
                or more. On a CPU, where it does not pay, it is refused. Defaults to the model's ``generation``, then
                to False.
            max_cache_bytes: Bound on all keys and values, those of kept prompts included. Defaults to
                the model's ``generation``, then to a quarter of the memory, on CUDA half of the free memory.
            ensemble_size: How many rows in turn, such as one query behind several prompts, write one answer: at every
                token the mean of their distributions is what the sampler chooses from. ``sampler`` and ``on_token``
                then have B / ensemble_size rows. Defaults to 1.
            draft: '2d' guesses several tokens at a time by what is above, to the left and in the other images, and
                has the model check them in one pass, see :class:`Drafter`. The answer is the same, greedy and drawn,
                up to rounding, and ``on_token`` reports several at once. 'none' leaves it. Defaults to the model's
                ``generation``, then to '2d' for a single row on a CPU: batches gain less, and may lose a few percent
                where nothing can be guessed.
            grid: Rows and columns of tokens in an image, for drafts. Defaults to the square of ``num_tokens``;
                without one there are no drafts.

        Returns:
            int64, B / ensemble_size x num_tokens.

        Raises:
            ValueError: If prompt and answer together pass the context, a token is outside the codebook, the prompt
                takes all tokens, one sequence or ensemble does not fit into ``max_cache_bytes``, B is not a
                multiple of ``ensemble_size``, ``draft`` is none of these or given together with ``compile``, or
                ``compile`` is on and the device is a CPU.
        """
        total = tokens.shape[1] + num_tokens
        if total > self.max_positions:
            raise ValueError(
                f"a prompt of {tokens.shape[1]} tokens and an answer of {num_tokens} do not fit the context of "
                f"{self.max_positions}; use fewer prompt pairs or smaller images"
            )
        self._check_tokens(tokens)
        if ensemble_size < 1 or len(tokens) % ensemble_size:
            raise ValueError(
                f"ensemble_size is {ensemble_size} and there are {len(tokens)} rows, expected a multiple of it: one "
                "row for each prompt of each query"
            )
        if not 0 <= prompt_length < tokens.shape[1]:
            raise ValueError(
                f"prompt_length is {prompt_length}, expected 0 to {tokens.shape[1] - 1}: at least one token of a row "
                "is its own"
            )
        if not callable(sampler):
            sampler = TASK_UTILS.build(dict(type=TokenSampler) | (self.sampler if sampler is None else dict(sampler)))
        if self.num_special_ids:
            sampler = CodeSampler(sampler, self.num_codes)
        given = dict(dtype=dtype, compile=compile, max_cache_bytes=max_cache_bytes, draft=draft)
        options = self.generation | {name: value for name, value in given.items() if value is not None}
        if isinstance(options.get("dtype"), str):
            options["dtype"] = floating_dtype(options["dtype"])
        parts = (self.embedding, self.backbone, self.head)
        options["ensemble_size"] = ensemble_size
        draft = options.pop("draft", None)
        check_draft(draft, options.get("compile"))
        _check_compile(options.get("compile"), tokens.device)
        if draft == "2d" or (draft is None and tokens.device.type == "cpu" and len(tokens) == 1):
            options["layout"] = self._layout(tokens, grid or _square(num_tokens))
        written = self._engine.generate(parts, tokens, num_tokens, sampler, on_token, prompt_length, **options)
        return written[::ensemble_size]

    def _answer(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens B x A x h·w of the answers: A is E, or 1 where an ensemble writes one."""
        if self.ensemble is not None:
            tokens = tokens[:, : self.ensemble.num_prompts(self.sampler)]
        batch, size, num_images, num_tokens = tokens.shape
        if size > 1:
            check_fits_context(size, num_images, num_tokens, self.max_positions - self.prompt_overhead)
        prompt_length = self.prompt_overhead + (num_images - 1) * num_tokens
        ensemble_size = size if self.ensemble is not None and self.ensemble.writes_one else 1
        rows = self.with_bos(tokens.flatten(0, 1).flatten(1))
        options = dict(prompt_length=prompt_length, ensemble_size=ensemble_size, grid=grid)
        answers = self.generate(rows, num_tokens, **options)
        return answers.view(batch, -1, num_tokens)

    def _layout(self, tokens: Tensor, grid: tuple[int, int] | None) -> ImageLayout | None:
        has_bos = self.bos_token is not None and bool((tokens[:, 0] == self.bos_token).all())
        return None if grid is None else ImageLayout(*grid, skip=int(has_bos))

    def _score(self, tokens: Tensor, samples: list[DataSample]) -> list[DataSample]:
        logits, labels = self._logits(tokens)[:, :-1], tokens[:, 1:]
        nll = F.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none")
        correct = logits.argmax(-1) == labels
        # Metrics read them number by number: moved together, the host waits for the device three times a batch.
        columns = (part.cpu() for part in (tokens, nll, correct))
        for sample, row, row_nll, row_correct in zip(samples, *columns, strict=True):
            sample.set_data(dict(tokens=row, token_nll=row_nll, token_correct=row_correct))
        return samples

    def _score_answered(self, images: Tensor, samples: list[DataSample]) -> list[DataSample]:
        tokens = self._memo.encode(self._need_tokenizer(), images.flatten(0, 1)).view(*images.shape[:2], -1)
        length = self.prompt_overhead + tokens[0].numel()
        if length > self.max_positions:
            raise ValueError(
                f"a prompt with its answer of {length} tokens does not fit the context of {self.max_positions}; use "
                "fewer prompt pairs or smaller images"
            )
        for sample in samples:
            sample.set_metainfo(dict(clip_shape=(2, tokens.shape[2])))
        return self._score(self.with_bos(tokens.flatten(1)), samples)


def floating_dtype(name: str) -> torch.dtype:
    """The type of a name such as 'bfloat16'; a ValueError says what is expected instead."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype is '{name}', expected 'float32', 'bfloat16' or 'float16'")
    return dtype


def _check_compile(compiled: bool | None, device: torch.device) -> None:
    if compiled and device.type == "cpu":
        raise ValueError(
            "compile is on and the device is a CPU, where a compiled step took ten times as long as the packed one "
            "that is used without: leave it out, or use a GPU"
        )


def check_draft(draft: str | None, compile: bool | None) -> None:
    """Check an option ``draft`` beside ``compile``; a ValueError says what is expected instead."""
    if draft not in (None, "2d", "none"):
        raise ValueError(f"draft is {draft!r}, expected '2d' or 'none'")
    if draft == "2d" and compile:
        raise ValueError("draft is '2d' and compile is on, but a compiled step reads one token; leave one of them out")


def _square(num_tokens: int) -> tuple[int, int] | None:
    side = math.isqrt(num_tokens)
    return (side, side) if side > 1 and side * side == num_tokens else None
