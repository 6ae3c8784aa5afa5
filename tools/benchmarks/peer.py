"""Hugging Face's LLaMA in the shape of ours: what the language model is measured against."""

from collections.abc import Mapping
from typing import Any

from transformers import LlamaConfig


def llama_config(shape: Mapping[str, int], codes: int, context: int, **changes: Any) -> LlamaConfig:
    """Configuration of ``LlamaForCausalLM`` with the biases and the untied head of DeLVM.

    Args:
        shape: ``embed_dims``, ``num_layers``, ``num_heads`` and ``feedforward_channels``.
        codes: Size of the vocabulary.
        context: Positions.
        **changes: Other arguments of ``LlamaConfig``.
    """
    return LlamaConfig(
        vocab_size=codes,
        hidden_size=shape["embed_dims"],
        intermediate_size=shape["feedforward_channels"],
        num_hidden_layers=shape["num_layers"],
        num_attention_heads=shape["num_heads"],
        max_position_embeddings=context,
        attention_bias=True,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **changes,
    )
