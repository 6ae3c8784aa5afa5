"""Language models in Hugging Face layout (``config.json`` and weights, whole or in shards) as :class:`DeLVM`."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor

from delvm_mm.checkpoints.io import load_into, load_state_dict
from delvm_mm.checkpoints.weight_folder import weight_files
from delvm_mm.models.backbones.llama import SCALED_POSITIONS
from delvm_mm.models.delvm import DeLVM
from delvm_mm.models.tokenizers.loading import load_tokenizer

__all__ = ["delvm_from_huggingface"]

ARCHITECTURES = ("LlamaForCausalLM", "InternLMForCausalLM")
MODEL_TYPES = ("llama", "internlm")
MAX_SPECIAL_IDS = 256
"""More ids than this beyond the tokenizer's codes look like another tokenizer's."""

# What would be computed otherwise, and the only value that is computed here.
_FIXED = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "pretraining_tp": 1,
    "sliding_window": None,
    "attention_multiplier": None,
    "quantization_config": None,
}
_NEEDED = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
)


def delvm_from_huggingface(
    folder: str | Path,
    tokenizer: Any = None,
    num_special_ids: int | None = None,
    bos_token: int | None = None,
) -> DeLVM:
    """Load a LLaMA or InternLM export whose vocabulary is a codebook, with special ids behind it or without.

    The export holds an ordinary embedding table, the product of codebook and projection, so the model has a
    :class:`TokenEmbedding`. Where its table is tied to its head, both get a copy. ``config.json`` may be one of
    transformers 4 or 5.

    Args:
        folder: Holds ``config.json`` and the weights, ``.safetensors`` or ``.bin``, whole or in shards.
        tokenizer: The tokenizer beside it, or its config; see :class:`DeLVM`.
        num_special_ids: How many of its last ids are no codes. Defaults to those beyond the tokenizer's codes, up to
            256 of them.
        bos_token: Id that stands before every prompt. Defaults to the config's, where that is a special id.

    Returns:
        In eval mode, weights in float32.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the config is not of such a model, or the weights do not fit it.
    """
    folder = Path(folder)
    path = folder / "config.json"
    config = _read_config(path)
    tokenizer = None if tokenizer is None else load_tokenizer(tokenizer)
    special = _special_ids(config, tokenizer, num_special_ids, path)
    num_codes = config["vocab_size"] - special
    given = config.get("bos_token_id")
    if bos_token is None and isinstance(given, int) and num_codes <= given < config["vocab_size"]:
        bos_token = given  # LlamaConfig's own default, 1, is a code
    model = DeLVM(
        tokenizer=tokenizer,
        backbone=dict(type="LLaMA", **_backbone(config, path)),
        embedding=dict(type="TokenEmbedding", num_embeddings=config["vocab_size"]),
        head=dict(type="NextTokenHead", num_embeddings=config["vocab_size"]),
        num_special_ids=special,
        bos_token=bos_token,
    )
    weight_files(folder)
    weights = _named_as_here(load_state_dict(folder))
    if "head.projection.weight" not in weights and config.get("tie_word_embeddings"):
        weights["head.projection.weight"] = weights.get("embedding.weight")
    weights["tokenizer_digest"] = model.tokenizer_digest  # an export does not say which tokenizer it belongs to
    load_into(model, weights, source=folder)
    return model.eval()


def _special_ids(config: dict[str, Any], tokenizer: Any, given: int | None, path: Path) -> int:
    """How many of the last ids are no codes."""
    if tokenizer is None:
        return given or 0
    beyond = config["vocab_size"] - tokenizer.num_embeddings
    if given is not None or beyond == 0:
        return beyond if given is None else given
    if not 0 < beyond <= MAX_SPECIAL_IDS:
        raise ValueError(
            f"{path} has a vocabulary of {config['vocab_size']}, the tokenizer has {tokenizer.num_embeddings} codes: "
            f"give the tokenizer that it was trained with (up to {MAX_SPECIAL_IDS} ids may be special ones, more need "
            "num_special_ids)"
        )
    print_log(
        f"{path}: ids {tokenizer.num_embeddings} to {config['vocab_size'] - 1} are no codes and are never written",
        "current",
        logging.INFO,
    )
    return beyond


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected the config.json of a Hugging Face export")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
    kinds = (config.get("architectures") or [None])[0], config.get("model_type")
    if kinds[0] not in (None, *ARCHITECTURES) or kinds[1] not in (None, *MODEL_TYPES):
        raise ValueError(
            f"{path} is the config of a {kinds[0] or kinds[1]} (model_type '{kinds[1]}'), expected one of "
            f"{', '.join(ARCHITECTURES)}"
        )
    missing = [key for key in _NEEDED if key not in config]
    if missing:
        raise ValueError(f"{path} lacks {missing}; expected the config of a LLaMA or InternLM model")
    for key, value in _FIXED.items():
        if config.get(key, value) not in (value, None):
            raise ValueError(f"{path}: {key} is {config[key]!r}, which is not supported; expected {value!r}")
    return config


def _backbone(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Arguments of :class:`LLaMA`."""
    heads = config["num_attention_heads"]
    arch = dict(
        embed_dims=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=heads,
        feedforward_channels=config["intermediate_size"],
    )
    if config.get("head_dim") is not None:
        arch["head_dim"] = config["head_dim"]
    base, scaling = _rotary(config, path)
    return dict(
        arch=arch,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        max_positions=config["max_position_embeddings"],
        qkv_bias=bool(config.get("bias", config.get("attention_bias", False))),
        norm_eps=config["rms_norm_eps"],
        rope_base=base,
        rope_scaling=scaling,
    )


def _rotary(config: dict[str, Any], path: Path) -> tuple[float, dict[str, Any] | None]:
    """Base and scaling: of transformers, transformers 5 (``rope_parameters``) and InternLM (``rotary``)."""
    rotary = config.get("rotary") or {}
    places = (config, config.get("rope_parameters") or {}, dict(rope_theta=rotary.get("base")))
    base = next((place["rope_theta"] for place in places if place.get("rope_theta") is not None), 10000.0)
    given: Mapping[str, Any] = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = given.get("rope_type") or given.get("type") or "default"
    of_internlm = rotary.get("type") or "origin"
    # 'dynamic' stretches positions beyond max_position_embeddings only, which no sentence here reaches.
    plain = ("default", "dynamic", "origin")
    if kind not in (*plain, *SCALED_POSITIONS) or of_internlm not in plain:
        raise ValueError(
            f"{path}: scaled rotary positions ({dict(given if of_internlm in plain else rotary)}) are not supported, "
            f"known are {', '.join(SCALED_POSITIONS)}"
        )
    if kind in plain:
        return base, None
    context = given.get("original_max_position_embeddings") or config["max_position_embeddings"]
    settings = dict(given, original_max_position_embeddings=context)
    return base, dict(rope_type=kind, **{name: settings.get(name) for name in SCALED_POSITIONS[kind]})


def _named_as_here(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = {"model.embed_tokens.weight": "embedding.weight", "lm_head.weight": "head.projection.weight"}
    return {
        names.get(key) or key.replace("model.", "backbone.", 1): value
        for key, value in weights.items()
        if "rotary_emb" not in key
    }
