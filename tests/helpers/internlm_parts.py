"""A model in the files of InternLM's training framework."""

import torch


def write_parts(model, folder, tensor_parts=1, stages=1, split=False):
    """A model's weights as the framework writes them: layers over stages, column- and row-parallel parts."""
    folder.mkdir()
    dims, layers = model.backbone.embed_dims, model.backbone.num_layers
    config = dict(
        num_attention_heads=model.backbone.num_heads,
        hidden_size=dims,
        num_layers=layers,
        vocab_size=model.num_embeddings,
        layer_norm_epsilon=model.backbone.norm.eps,
        norm_type="rmsnorm",
        dtype="torch.float16",
    )
    torch.save(config, folder / "model_config.pt")
    per_stage = layers // stages
    for part in range(tensor_parts):

        def cut(weight, dim=0, part=part):
            return weight.detach().chunk(tensor_parts, dim)[part].clone()

        for stage in range(stages):
            state = {}
            if stage == 0:
                state["model.embedding.weight"] = cut(model.embedding.weight, 1)
            for number in range(per_stage):
                layer, name = model.backbone.layers[stage * per_stage + number], f"model.blocks.{number}"
                attention, mlp = layer.self_attn, layer.mlp
                for kind in ("weight", "bias"):
                    qkv = [cut(getattr(p, kind)) for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
                    if split:
                        for letter, value in zip("qkv", qkv, strict=True):
                            state[f"{name}.mixer.w{letter}.{kind}"] = value
                    else:
                        state[f"{name}.mixer.Wqkv.{kind}"] = torch.cat(qkv)
                state[f"{name}.mixer.out_proj.weight"] = cut(attention.o_proj.weight, 1)
                if part == 0:  # row-parallel: the bias is added once
                    state[f"{name}.mixer.out_proj.bias"] = attention.o_proj.bias.detach().clone()
                state[f"{name}.norm1.weight"] = layer.input_layernorm.weight.detach().clone()
                state[f"{name}.norm2.weight"] = layer.post_attention_layernorm.weight.detach().clone()
                state[f"{name}.mlp.w1.weight"] = cut(mlp.gate_proj.weight)
                state[f"{name}.mlp.w2.weight"] = cut(mlp.up_proj.weight)
                state[f"{name}.mlp.w3.weight"] = cut(mlp.down_proj.weight, 1)
            if stage == stages - 1:
                state["model.norm.weight"] = model.backbone.norm.weight.detach().clone()
                state["model.head.weight"] = cut(model.head.projection.weight)
            torch.save(state, folder / f"model_tp{part}_pp{stage}.pt")
    return folder
