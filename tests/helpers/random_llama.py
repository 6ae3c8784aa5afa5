"""Hugging Face's LLaMA with random weights: the oracle of generation and of loading exports."""

import torch


def random_llama(num_layers, max_positions, **changes):
    """A ``LlamaForCausalLM`` of 96 codes, with attention biases that are not zero; ``changes`` are of its config."""
    import transformers

    torch.manual_seed(0)
    settings = dict(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=112,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        max_position_embeddings=max_positions,
        rms_norm_eps=1e-5,
        attention_bias=True,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        initializer_range=0.3,
    )
    config = transformers.LlamaConfig(**settings | changes)
    model = transformers.LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model
