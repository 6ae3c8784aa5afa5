"""DeLVM: a large vision model that answers by writing the next image."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from torch import Tensor, nn

from delvm_mm.generation import GenerationEngine, ImageLayout, TokenSampler
from delvm_mm.generation.samplers import CodeSampler
from delvm_mm.models.losses.extra_loss import ExtraLoss
from delvm_mm.models.prompt_ensemble import PromptEnsemble, answer_fields, check_fits_context, prompt_tokens
from delvm_mm.models.tokenizers.images import decode_images, to_float
from delvm_mm.models.tokenizers.loading import load_tokenizer
from delvm_mm.models.tokenizers.memo import TokenMemo
from delvm_mm.registry import MODELS, TASK_UTILS, type_name
from delvm_mm.structures import DataSample

DIGEST_BYTES = 8  # of the tokenizer's fingerprint


@MODELS.register_module()
class DeLVM(BaseModel):
    """Data-efficient large vision model (Guo et al., ICML 2024, arXiv 2402.04841).

    Token embedding, causal decoder and next-token head; a frozen tokenizer beside them turns images into tokens
    and tokens into images.

    Args:
        tokenizer: The frozen tokenizer, as for :func:`load_tokenizer`:
            ``dict(type='VQGAN', pretrained=folder)``, or a :class:`VQGAN`. None for a model that only ever sees tokens.
        backbone: The decoder, such as :class:`LLaMA`.
        embedding: :class:`CodebookEmbedding` or :class:`TokenEmbedding`. In a config, the width,
            the codebook and its size are filled in from the backbone and the tokenizer.
        head: :class:`NextTokenHead`; filled in likewise.
        data_preprocessor: Defaults to :class:`VisualSentencePreprocessor`.
        sampler: How ``predict`` chooses tokens, a :class:`TokenSampler`. Defaults to greedy.
        generation: Defaults of :meth:`generate` for ``dtype``, ``compile``, ``max_cache_bytes`` and ``draft``,
            such as ``dict(dtype='bfloat16')``.
        ensemble: Answer each query behind several prompts, the arguments of a :class:`PromptEnsemble`, such as
            ``dict(size=8)``: 24 pairs are then 8 prompts of 3. Defaults to one prompt of all pairs.
        save_tokenizer: Whether checkpoints carry the frozen tokenizer. Defaults to False: they carry its
            fingerprint and refuse to be loaded beside another one.
        num_special_ids: How many ids of the vocabulary come after the codes, such as a beginning of sentence. They
            are read, never written. Defaults to 0: the vocabulary is the codebook.
        bos_token: A special id that stands before every prompt of images. Defaults to none.
        label_weight: How much more a token of a label counts in the cross-entropy than one of the first image
            of its clip; the mean over a sentence stays the same. Defaults to 1, as published.
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: If embedding, head and tokenizer disagree about the size of the vocabulary, ``bos_token`` is no
            special id, or ``label_weight`` is not positive.
    """

    def __init__(
        self,
        tokenizer: str | dict | nn.Module | None,
        backbone: dict | nn.Module,
        embedding: dict | nn.Module,
        head: dict | nn.Module,
        data_preprocessor: dict | nn.Module | None = None,
        sampler: dict | None = None,
        generation: dict | None = None,
        save_tokenizer: bool = False,
        label_weight: float = 1.0,
        num_special_ids: int = 0,
        bos_token: int | None = None,
        ensemble: dict | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(_build(data_preprocessor or dict(type="VisualSentencePreprocessor")), init_cfg)
        self.tokenizer = None if tokenizer is None else load_tokenizer(tokenizer)
        self.backbone = _build(backbone)
        sizes = dict(embed_dims=self.backbone.embed_dims)
        if self.tokenizer is not None:
            sizes["num_embeddings"] = self.tokenizer.num_embeddings + num_special_ids
        self.embedding = self._build_embedding(embedding, sizes)
        self.head = _build(head, **sizes)
        self.num_special_ids = num_special_ids
        self.bos_token = bos_token
        self._check_vocabulary()
        if isinstance(label_weight, bool) or not isinstance(label_weight, int | float) or not 0 < label_weight < 1e6:
            raise ValueError(f"label_weight is {label_weight!r}, expected a number above 0; 1 is the published loss")
        self.label_weight = float(label_weight)
        self.sampler = dict(sampler or {})
        self.generation = dict(generation or {})
        if unknown := set(self.generation) - {"dtype", "compile", "max_cache_bytes", "draft"}:
            raise ValueError(
                f"generation has {sorted(unknown)}, expected 'dtype', 'compile', 'max_cache_bytes' or 'draft'"
            )
        _check_draft(self.generation.get("draft"), self.generation.get("compile"))
        self.ensemble = PromptEnsemble.of(ensemble)
        self._engine, self._memo = GenerationEngine(), TokenMemo()
        self.save_tokenizer = save_tokenizer
        self.extra_losses: list[ExtraLoss] = []
        self.register_buffer("tokenizer_digest", self._digest())
        self._register_state_dict_hook(_drop_tokenizer)

    @property
    def num_embeddings(self) -> int:
        """Size K of the vocabulary: the codebook, and behind it special ids, if there are some."""
        return self.head.num_embeddings

    @property
    def num_codes(self) -> int:
        """Size of the codebook: ids below this are parts of images."""
        return self.num_embeddings - self.num_special_ids

    def with_bos(self, tokens: Tensor) -> Tensor:
        """Tokens B x L of images as prompts begin: behind ``bos_token``, B x (1 + L), where the model has one."""
        if self.bos_token is None:
            return tokens
        return F.pad(tokens, (1, 0), value=self.bos_token)

    @property
    def prompt_overhead(self) -> int:
        """Tokens that :meth:`with_bos` adds."""
        return int(self.bos_token is not None)

    @property
    def max_positions(self) -> int:
        """The context, in tokens."""
        return self.backbone.max_positions

    def train(self, mode: bool = True) -> "DeLVM":
        """Set training mode for everything but the frozen tokenizer; training takes the memory of generation back."""
        super().train(mode)
        if mode:
            self._engine.clear()
        if self.tokenizer is not None:
            self.tokenizer.eval()
        return self

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = "tensor"
    ) -> Tensor | dict[str, Tensor] | list[DataSample]:
        """Run the model as MMEngine's runner asks.

        Args:
            inputs: int64 tokens B x L; for ``mode='predict'`` also prompts, float images
                B x (2P + 1) x 3 x H x W in [0, 1]: P (image, annotation) pairs and the query.
            data_samples: One a row, filled and returned by ``mode='predict'``.
            mode: 'tensor' (logits B x L x K), 'loss' (a dict) or 'predict' (data samples).

        Returns:
            As ``mode`` says.

        Raises:
            ValueError: If ``mode`` is none of these, a token is outside the codebook, or the context is too short.
        """
        if mode == "tensor":
            return self._logits(inputs)
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode is '{mode}', expected 'tensor', 'loss' or 'predict'")

    def loss(self, inputs: Tensor, data_samples: list[DataSample] | None = None) -> dict[str, Tensor]:
        """Next-token cross-entropy over every token but the first, and the losses that hooks have added.

        The logits of the batch never exist as a whole; see :func:`next_token_losses`. Each loss has a gradient of its
        own and may be weighed, but weights in the configs of head and hooks are cheaper.

        Args:
            inputs: int64, B x L.
            data_samples: For ``extra_losses``, and ``clip_shape`` of each for
                ``label_weight``.

        Returns:
            ``loss_ce`` and those of ``extra_losses``, such as ``loss_kd``.
        """
        self._check_tokens(inputs)
        for extra_loss in self.extra_losses:
            extra_loss.prepare(inputs, data_samples)
        features = self.backbone(self.embedding(inputs))
        terms = [term for extra_loss in self.extra_losses for term in extra_loss.logit_terms()]
        weights = None if self.label_weight == 1 else self._token_weights(inputs, data_samples)
        losses = self.head.loss_from_features(features[:, :-1], inputs[:, 1:], terms, weights)
        for extra_loss in self.extra_losses:
            losses.update(extra_loss.scalar_losses())
        return losses

    def _token_weights(self, inputs: Tensor, data_samples: list[DataSample] | None) -> Tensor:
        """``label_weight`` for tokens after the first image of their clip, 1 for its own; mean 1 in a sentence."""
        shapes = [getattr(sample, "clip_shape", None) for sample in data_samples or [None] * len(inputs)]
        if len(shapes) != len(inputs) or None in shapes:
            raise ValueError(
                f"label_weight={self.label_weight} needs data_samples with 'clip_shape' (images in a clip, tokens of "
                "an image) for each sentence, as VisualSentenceDataset gives them"
            )
        places = torch.arange(inputs.shape[1], device=inputs.device)
        rows = [torch.where(places // tokens % images == 0, 1.0, self.label_weight) for images, tokens in shapes]
        weights = torch.stack(rows)[:, 1:]
        return weights / weights.mean(1, keepdim=True)

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum the losses for the backward pass; the values to log are the means over all processes."""
        # MMEngine's own takes the mean of each loss: of these that is the loss, behind another gradient for each, which
        # next_token_losses would have to compare.
        if all(isinstance(value, Tensor) and not value.ndim for value in losses.values()):
            loss = sum(value for name, value in losses.items() if "loss" in name)
            log_vars = OrderedDict(loss=loss) | losses
        else:
            loss, log_vars = super().parse_losses(losses)
        if get_world_size() > 1:
            means = torch.stack([value.detach().float() for value in log_vars.values()])
            all_reduce(means, op="mean")
            log_vars = dict(zip(log_vars, means, strict=True))
        return loss, log_vars

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
    def sampling(self, sampler: Mapping[str, Any] | None) -> Iterator[None]:
        """Let ``predict`` choose tokens in another way for a while, such as that of a task.

        Args:
            sampler: Arguments of a :class:`TokenSampler` that replace the model's own of the same names; None for none.
        """
        own, self.sampler = self.sampler, self.sampler | dict(sampler or {})
        try:
            yield
        finally:
            self.sampler = own

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
        _check_draft(draft, options.get("compile"))
        _check_compile(options.get("compile"), tokens.device)
        if draft == "2d" or (draft is None and tokens.device.type == "cpu" and len(tokens) == 1):
            options["layout"] = self._layout(tokens, grid or _square(num_tokens))
        written = self._engine.generate(parts, tokens, num_tokens, sampler, on_token, prompt_length, **options)
        return written[::ensemble_size]

    def _answer(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens B x A x h·w of the answers: A is E, or 1 where an ensemble writes one."""
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

    def _logits(self, tokens: Tensor) -> Tensor:
        self._check_tokens(tokens)
        return self.head(self.backbone(self.embedding(tokens)))

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

    def _check_tokens(self, tokens: Tensor) -> None:
        if tokens.dtype != torch.int64 or tokens.ndim != 2 or not tokens.shape[1]:
            raise ValueError(f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}, expected int64 B x L, L >= 1")
        # On an accelerator the look-up itself traps; a check here would wait for the device at every step.
        if tokens.device.type == "cpu":
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= self.num_embeddings:
                raise ValueError(
                    f"token {high if high >= self.num_embeddings else low} is outside the codebook of "
                    f"{self.num_embeddings}; the tokens were made with another tokenizer"
                )

    def _need_tokenizer(self) -> nn.Module:
        if self.tokenizer is None:
            raise ValueError("this DeLVM was built without a tokenizer and cannot read images; set model.tokenizer")
        return self.tokenizer

    def _build_embedding(self, embedding: dict | nn.Module, sizes: dict[str, int]) -> nn.Module:
        if isinstance(embedding, nn.Module):
            return embedding
        if self.tokenizer is not None and type_name(embedding) == "CodebookEmbedding":
            sizes = dict(embed_dims=sizes["embed_dims"], codebook=self.tokenizer.codebook)
        return _build(embedding, **sizes)

    def _check_vocabulary(self) -> None:
        sizes = dict(embedding=self.embedding.num_embeddings, head=self.head.num_embeddings)
        special = self.num_special_ids
        if isinstance(special, bool) or not isinstance(special, int) or not 0 <= special < sizes["head"]:
            raise ValueError(f"num_special_ids is {special!r}, expected 0 or more, and less than {sizes['head']}")
        if self.tokenizer is not None:
            sizes["tokenizer"] = self.tokenizer.num_embeddings + special
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"codebook sizes differ: {sizes}; the vocabulary is the tokenizer's codebook"
                + (f" and {special} special ids" if special else "")
            )
        if self.bos_token is not None and self.bos_token not in range(self.num_codes, self.num_embeddings):
            raise ValueError(
                f"bos_token is {self.bos_token!r}, expected one of the {special} special ids, from {self.num_codes} on"
            )

    def _digest(self) -> Tensor:
        if self.tokenizer is None:
            return torch.zeros(DIGEST_BYTES, dtype=torch.uint8)
        return torch.frombuffer(bytearray.fromhex(self.tokenizer.fingerprint), dtype=torch.uint8)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # Weights mean nothing beside another tokenizer, and such a mistake shows in no shape: refuse it by name.
        given = state_dict.get(prefix + "tokenizer_digest")
        carries_tokenizer = any(key.startswith(prefix + "tokenizer.") for key in state_dict)
        if given is not None and not carries_tokenizer and self.tokenizer is not None:
            own = self._digest()
            if given.any() and not torch.equal(given.cpu(), own):
                raise ValueError(
                    f"the checkpoint was trained with tokenizer {_hex(given)}, this model has {_hex(own)}; give "
                    "model.tokenizer the weights that the checkpoint was trained with"
                )
        if not carries_tokenizer and self.tokenizer is not None:
            # The frozen tokenizer stays as it is; without this every load would list its keys as missing.
            state_dict.update({f"{prefix}tokenizer.{key}": value for key, value in self.tokenizer.state_dict().items()})
        state_dict.setdefault(prefix + "tokenizer_digest", self.tokenizer_digest)
        super()._load_from_state_dict(state_dict, prefix, *args)


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


def _check_draft(draft: str | None, compile: bool | None) -> None:
    if draft not in (None, "2d", "none"):
        raise ValueError(f"draft is {draft!r}, expected '2d' or 'none'")
    if draft == "2d" and compile:
        raise ValueError("draft is '2d' and compile is on, but a compiled step reads one token; leave one of them out")


def _square(num_tokens: int) -> tuple[int, int] | None:
    side = math.isqrt(num_tokens)
    return (side, side) if side > 1 and side * side == num_tokens else None


def _build(part: dict | nn.Module | None, **defaults: Any) -> nn.Module | None:
    return MODELS.build(defaults | part) if isinstance(part, dict) else part


def _drop_tokenizer(module: DeLVM, state_dict: dict[str, Tensor], prefix: str, _: Any) -> None:
    if not module.save_tokenizer:
        for key in [key for key in state_dict if key.startswith(prefix + "tokenizer.")]:
            del state_dict[key]


def _hex(digest: Tensor) -> str:
    return bytes(digest.cpu().tolist()).hex()
