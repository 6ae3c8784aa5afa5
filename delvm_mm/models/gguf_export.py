"""A :class:`DeLVM` as a GGUF file, for llama.cpp and what is built on it; needs the package ``gguf``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delvm_mm.checkpoints.files import put_in_place, temporary_beside
from delvm_mm.models.backbones.llama import rotary_frequencies
from delvm_mm.models.delvm import DeLVM
from delvm_mm.models.description import weights_of
from delvm_mm.models.huggingface_export import embedding_table, llama_config

__all__ = ["GGUF_TYPES", "save_as_gguf"]

GGUF_TYPES = ("f32", "f16", "bf16", "q8_0")
"""Types of matrices; norms and biases are always in float32."""

_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def save_as_gguf(model: DeLVM, path: str | Path, dtype: str = "f32", name: str | None = None) -> Path:
    """Write one file with the model and no vocabulary of text: prompts are ids.

    Queries and keys are rearranged, weights and biases, as llama.cpp rotates neighboring channels where the published
    weights have halves. The file appears whole or not at all.

    Args:
        model: See :func:`describe_model` for what can be written.
        path: Ends with ``.gguf``; an earlier file is replaced.
        dtype: 'f32', 'f16', 'bf16' or 'q8_0' (blocks of 32 numbers in 8 bits with a scale; a matrix whose rows are no
            multiple of 32 is written in f16).
        name: Of the model, in the file. Defaults to that of the file.

    Returns:
        The path.

    Raises:
        ImportError: The package ``gguf`` is missing.
        ValueError: The type is none of these, the name does not end so, or the model has parts that LLaMA has not.
    """
    path = Path(path)
    if dtype not in GGUF_TYPES:
        raise ValueError(f"dtype is '{dtype}', expected one of {', '.join(GGUF_TYPES)}")
    if path.suffix != ".gguf":
        raise ValueError(f"{path}: name a file that ends with .gguf")
    try:
        import gguf
    except ImportError as error:
        raise ImportError("writing GGUF needs the package gguf: pip install 'delvm_mm[gguf]'") from error
    config = llama_config(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(path) as temporary:
        writer = gguf.GGUFWriter(temporary, "llama")
        try:
            _add_settings(writer, config, dtype, name or path.stem)
            for tensor, value in _tensors(model, config):
                kind = _kind_of(value, dtype)
                data = gguf.quants.quantize(value, gguf.GGMLQuantizationType[kind])
                writer.add_tensor(tensor, data, raw_dtype=gguf.GGMLQuantizationType[kind])
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        put_in_place(temporary, path)
    return path


def _add_settings(writer: Any, config: dict[str, Any], dtype: str, name: str) -> None:
    import gguf

    kinds = dict(f32="ALL_F32", f16="MOSTLY_F16", bf16="MOSTLY_BF16", q8_0="MOSTLY_Q8_0")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[kinds[dtype]])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    scaling = config["rope_scaling"] or {}
    if scaling.get("rope_type", scaling.get("type")) == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    writer.add_tokenizer_model("no_vocab")


def _tensors(model: DeLVM, config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values as llama.cpp has them, in float32."""
    yield "token_embd.weight", _array(embedding_table(model))
    yield "output.weight", _array(model.head.projection.weight)
    yield "output_norm.weight", _array(model.backbone.norm.weight)
    scaling = config["rope_scaling"] or {}
    if scaling.get("rope_type", scaling.get("type")) == "llama3":
        plain = rotary_frequencies(config["head_dim"], config["rope_theta"])
        stretched = rotary_frequencies(config["head_dim"], config["rope_theta"], scaling)
        yield "rope_freqs.weight", _array(plain / stretched)
    heads = {"self_attn.q_proj": config["num_attention_heads"], "self_attn.k_proj": config["num_key_value_heads"]}
    prefix = "backbone.layers."
    for name, value in weights_of(model).items():
        if name.startswith(prefix):
            number, _, inner = name.removeprefix(prefix).partition(".")
            layer, _, kind = inner.rpartition(".")
            if layer in heads:
                value = _neighbors(value, heads[layer])
            yield f"blk.{number}.{_NAMES[layer]}.{kind}", _array(value)


def _neighbors(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head (weight or bias) from halves, i and i + D/2 rotated together, to neighbors, 2i and 2i + 1."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)


def _array(value: Tensor) -> np.ndarray:
    return value.detach().to("cpu", torch.float32).contiguous().numpy()


def _kind_of(value: np.ndarray, dtype: str) -> str:
    if value.ndim == 1:
        return "F32"
    return "F16" if dtype == "q8_0" and value.shape[-1] % 32 else dtype.upper()
