"""A :class:`DeLVM` as an ordinary ``LlamaForCausalLM``, for transformers and what reads its folders."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from delvm_mm.checkpoints.files import put_in_place, temporary_beside
from delvm_mm.checkpoints.weight_folder import SHARD_BYTES, save_weight_folder
from delvm_mm.models.delvm import DeLVM
from delvm_mm.models.description import describe_model, weights_of

__all__ = ["embedding_table", "llama_config", "save_as_huggingface"]

CONFIG_FILE = "config.json"


def save_as_huggingface(
    model: DeLVM,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a folder that ``AutoModelForCausalLM.from_pretrained`` reads, with the same logits and greedy tokens.

    The embedding is the product of codebook and projection. The tokenizer of images is not part of it: prompts are ids.
    The folder appears whole or not at all.

    Args:
        model: See :func:`describe_model` for what can be written.
        folder: Must not be there, be empty, or hold an earlier export, which is replaced.
        dtype: Of all weights, such as ``torch.bfloat16``. Defaults to that of the model.
        shard_bytes: Most bytes of a file, 4 GB by default.

    Returns:
        The folder.

    Raises:
        FileExistsError: Something else has that name.
        ValueError: The model has parts that LLaMA has not.
    """
    folder = Path(folder)
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not is_empty and not _is_export(folder):
        raise FileExistsError(f"{folder} is there already and is no export; name another folder, or delete it")
    config = llama_config(model)
    weights = {_their_name(name): value for name, value in weights_of(model, dtype).items() if _is_theirs(name)}
    table = embedding_table(model)
    weights = {"model.embed_tokens.weight": table if dtype is None else table.to(dtype), **weights}
    kind = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    # transformers 5 says dtype, 4 says torch_dtype; each reads the other's, too.
    config["torch_dtype"] = kind
    with temporary_beside(folder) as temporary:
        temporary.mkdir(parents=True)
        _write_json(temporary / CONFIG_FILE, config)
        _write_json(temporary / "generation_config.json", _generation_config(model))
        save_weight_folder(temporary, weights, shard_bytes)
        put_in_place(temporary, folder)
    return folder


def llama_config(model: DeLVM) -> dict[str, Any]:
    """The ``LlamaConfig`` of a model, as a dict.

    Args:
        model: See :func:`describe_model` for what can be written.

    Returns:
        What ``config.json`` is to hold.

    Raises:
        ValueError: The model has parts that LLaMA has not.
    """
    settings = describe_model(model)["backbone"]
    backbone = model.backbone
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": settings["qkv_bias"],
        "bos_token_id": model.bos_token,
        "eos_token_id": None,
        "pad_token_id": None,
        "head_dim": backbone.head_dim,
        "hidden_act": "silu",
        "hidden_size": backbone.embed_dims,
        "intermediate_size": backbone.arch["feedforward_channels"],
        "max_position_embeddings": backbone.max_positions,
        "mlp_bias": False,
        "num_attention_heads": backbone.num_heads,
        "num_hidden_layers": backbone.num_layers,
        "num_key_value_heads": backbone.num_kv_heads,
        "rms_norm_eps": settings["norm_eps"],
        "rope_scaling": settings["rope_scaling"],
        "rope_theta": float(settings["rope_base"]),
        "tie_word_embeddings": False,
        "vocab_size": model.num_embeddings,
    }


@torch.no_grad()
def embedding_table(model: DeLVM) -> Tensor:
    """What stands for each id, K x C: for a :class:`CodebookEmbedding` the codebook through its projection."""
    ids = torch.arange(model.num_embeddings, device=next(model.head.parameters()).device)
    return model.embedding(ids[None])[0]


def _generation_config(model: DeLVM) -> dict[str, Any]:
    config: dict[str, Any] = dict(bos_token_id=model.bos_token, eos_token_id=None, pad_token_id=None)
    if model.num_special_ids:
        config["suppress_tokens"] = list(range(model.num_codes, model.num_embeddings))
    sampler = model.sampler
    if sampler.get("temperature", 0) > 0:
        # transformers keeps 50 tokens unless told otherwise.
        config |= dict(do_sample=True, temperature=sampler["temperature"], top_k=sampler.get("top_k") or 0)
        config["top_p"] = sampler.get("top_p") or 1.0
    return config


def _is_theirs(name: str) -> bool:
    return name.startswith("backbone.") or name == "head.projection.weight"


def _their_name(name: str) -> str:
    return "lm_head.weight" if name == "head.projection.weight" else name.replace("backbone.", "model.", 1)


def _is_export(folder: Path) -> bool:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("architectures") == ["LlamaForCausalLM"]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
