"""Released language models in Hugging Face layout (``config.json`` + weights) as :class:`DeLVM`."""

import json
from pathlib import Path
from typing import Any

from delvm_mm.checkpoints.io import load_into, load_state_dict
from delvm_mm.models.delvm import DeLVM

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def delvm_from_huggingface(folder: str | Path, tokenizer: Any = None) -> DeLVM:
    """Load a LLaMA or InternLM export whose vocabulary is a codebook.

    The export holds an ordinary embedding table, the product of codebook and projection, so the model has a
    :class:`TokenEmbedding`.

    Args:
        folder: Holds ``config.json`` and ``pytorch_model.bin`` or ``model.safetensors``.
        tokenizer: The tokenizer beside it, or its config; see :class:`DeLVM`.

    Returns:
        In eval mode.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the config is not of such a model, or the weights do not fit it.
    """
    folder = Path(folder)
    config = _read_config(folder / "config.json")
    heads = config["num_attention_heads"]
    if config.get("num_key_value_heads", heads) != heads:
        raise ValueError(f"{folder}: grouped-query attention (num_key_value_heads != {heads}) is not supported")
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"{folder}: hidden_act is '{config['hidden_act']}', expected 'silu'")
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    rotary = config.get("rotary") or {}
    scaled = (rope.get("rope_type") or rope.get("type") or "default") != "default"
    # InternLM's: 'dynamic' is plain within the context, beyond which nothing is read here.
    if scaled or (rotary.get("type") or "origin") not in ("origin", "dynamic"):
        rope = rope if scaled else rotary
        raise ValueError(f"{folder}: scaled rotary positions ({rope}) are not supported")
    if config.get("tie_word_embeddings"):
        raise ValueError(f"{folder}: tied embeddings are not supported; DeLVM's head is a table of its own")
    model = DeLVM(
        tokenizer=tokenizer,
        backbone=dict(
            type="LLaMA",
            arch=dict(
                embed_dims=config["hidden_size"],
                num_layers=config["num_hidden_layers"],
                num_heads=heads,
                feedforward_channels=config["intermediate_size"],
            ),
            max_positions=config["max_position_embeddings"],
            qkv_bias=config.get("bias", config.get("attention_bias", False)),
            norm_eps=config["rms_norm_eps"],
            rope_base=_rope_base(config),
        ),
        embedding=dict(type="TokenEmbedding", num_embeddings=config["vocab_size"]),
        head=dict(type="NextTokenHead", num_embeddings=config["vocab_size"]),
    )
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).exists()), folder / WEIGHT_FILES[-1])
    weights = {_rename(key): value for key, value in load_state_dict(path).items() if "rotary_emb" not in key}
    weights["tokenizer_digest"] = model.tokenizer_digest  # an export does not say which tokenizer it belongs to
    load_into(model, weights, source=path)
    return model.eval()


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected the config.json of a Hugging Face export")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
    needed = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    missing = [key for key in (*needed, "max_position_embeddings", "rms_norm_eps") if key not in config]
    if missing:
        raise ValueError(f"{path} lacks {missing}; expected the config of a LLaMA or InternLM model")
    return config


def _rope_base(config: dict[str, Any]) -> float:
    # Of transformers, transformers 5 and InternLM; null is as good as nothing.
    places = (config, config.get("rope_parameters") or {}, dict(rope_theta=(config.get("rotary") or {}).get("base")))
    return next((place["rope_theta"] for place in places if place.get("rope_theta") is not None), 10000.0)


def _rename(key: str) -> str:
    if key == "model.embed_tokens.weight":
        return "embedding.weight"
    if key == "lm_head.weight":
        return "head.projection.weight"
    return key.replace("model.", "backbone.", 1)
