"""DeLVM: a large vision model that answers by writing the next image."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from torch import Tensor, nn

from delvm_mm.checkpoints.io import load_into
from delvm_mm.generation import GenerationEngine
from delvm_mm.models.answering import AnsweringMixin, check_draft
from delvm_mm.models.initial_layers import read_initial_weights
from delvm_mm.models.losses.extra_loss import ExtraLoss
from delvm_mm.models.prompt_ensemble import PromptEnsemble
from delvm_mm.models.tokenizers.loading import load_tokenizer
from delvm_mm.models.tokenizers.memo import TokenMemo
from delvm_mm.registry import MODELS, type_name
from delvm_mm.structures import DataSample

DIGEST_BYTES = 8  # of the tokenizer's fingerprint


@MODELS.register_module()
class DeLVM(AnsweringMixin, BaseModel):
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
        init_cfg: MMEngine's initialization config. ``dict(type='Pretrained', checkpoint=..., layers=(0, 2, 4))`` begins
            with the weights of another model, of which ``layers`` are taken, one for each layer of this one.

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
        check_draft(self.generation.get("draft"), self.generation.get("compile"))
        self.ensemble = PromptEnsemble.of(ensemble)
        self._engine, self._memo = GenerationEngine(), TokenMemo()
        self.save_tokenizer = save_tokenizer
        self.extra_losses: list[ExtraLoss] = []
        self.register_buffer("tokenizer_digest", self._digest())
        self._register_state_dict_hook(_drop_tokenizer)

    def init_weights(self) -> None:
        """Take over the weights that ``init_cfg`` names; without, all were drawn in the constructors.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, does not fit, or belongs to another tokenizer.
        """
        if not (isinstance(self.init_cfg, Mapping) and type_name(self.init_cfg).startswith("Pretrained")):
            super().init_weights()
            return
        # MMEngine's own way only logs what does not fit, and may run what a pickle wants to.
        weights = read_initial_weights(self.init_cfg, len(self.backbone.layers))
        own = {name: value for name, value in self.state_dict().items() if name.startswith("tokenizer.")}
        load_into(self, weights | own, source=self.init_cfg["checkpoint"])
        self._is_init = True

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

    def _logits(self, tokens: Tensor) -> Tensor:
        self._check_tokens(tokens)
        return self.head(self.backbone(self.embedding(tokens)))

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


def _build(part: dict | nn.Module | None, **defaults: Any) -> nn.Module | None:
    return MODELS.build(defaults | part) if isinstance(part, dict) else part


def _drop_tokenizer(module: DeLVM, state_dict: dict[str, Tensor], prefix: str, _: Any) -> None:
    if not module.save_tokenizer:
        for key in [key for key in state_dict if key.startswith(prefix + "tokenizer.")]:
            del state_dict[key]


def _hex(digest: Tensor) -> str:
    return bytes(digest.cpu().tolist()).hex()
