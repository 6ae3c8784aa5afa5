"""Checkpoints of InternLM's training framework, in which DeLVM was published, as :class:`DeLVM`.

A folder holds ``model_config.pt`` and ``model_tp{i}_pp{j}.pt``: tensor-parallel parts i of pipeline stages j. Each part
numbers its layers from 0. The tokenizer may be inside, under ``embedding.vq_model``.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from delvm_mm.checkpoints.io import load_checkpoint, load_into, load_state_dict
from delvm_mm.models.delvm import DeLVM
from delvm_mm.models.tokenizers.conversion import config_of_shapes
from delvm_mm.models.tokenizers.loading import load_tokenizer
from delvm_mm.models.tokenizers.vqgan import VQGAN

__all__ = ["delvm_from_internlm", "is_internlm"]

CONFIG_FILE = "model_config.pt"
_PART = re.compile(r"model_tp(\d+)_pp(\d+)\.pt$")
_BLOCK = re.compile(r"blocks\.(\d+)\.(.*)$")
_TOKENIZER = "embedding.vq_model."
_NAMES = {
    "mixer.out_proj": "self_attn.o_proj",
    "mixer.wo": "self_attn.o_proj",
    "mixer.wq": "self_attn.q_proj",
    "mixer.wk": "self_attn.k_proj",
    "mixer.wv": "self_attn.v_proj",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
    "mlp.w1": "mlp.gate_proj",
    "mlp.w2": "mlp.up_proj",
    "mlp.w3": "mlp.down_proj",
}


def is_internlm(path: str | Path) -> bool:
    """Whether a folder holds such parts."""
    return Path(path).is_dir() and any(_PART.match(entry.name) for entry in Path(path).iterdir())


def delvm_from_internlm(
    folder: str | Path, tokenizer: Any = None, max_positions: int = 2048, resolution: int = 256
) -> DeLVM:
    """Join the parts of a checkpoint into a model.

    Args:
        folder: Holds ``model_config.pt`` and all parts.
        tokenizer: The tokenizer, or its config; see :class:`DeLVM`. Where one is inside, it must be the same, and is
            the default.
        max_positions: The context in tokens, which no file says.
        resolution: Side in pixels of the images that a tokenizer inside was trained on; a name for where attention is.

    Returns:
        In eval mode, weights in float32; codebook and projection apart, as they were trained.

    Raises:
        FileNotFoundError: The config or a part is missing.
        ValueError: A file is damaged, wants to run code, or the parts do not fit together.
    """
    folder = Path(folder)
    config = _read_config(folder)
    stages = _read_parts(folder)
    parts = _by_layer(stages, folder)
    inside = {
        name.removeprefix(_TOKENIZER): values[0].float()
        for name, values in parts.items()
        if name.startswith(_TOKENIZER)
    }
    codebook = inside.get("quantize.embedding.weight")
    tokenizer = _tokenizer(tokenizer, inside, folder, resolution)
    parts = {name: values for name, values in parts.items() if not name.startswith(_TOKENIZER)}
    heads, tensor_parts = config["num_attention_heads"], len(stages[0])
    _check_rotary(parts, config, folder)
    weights = _our_names(parts, heads)
    embedding = dict(type="TokenEmbedding", num_embeddings=config["vocab_size"])
    if "embedding.projection.weight" in weights:
        dims = weights["embedding.projection.weight"][0].shape[1] if codebook is None else codebook.shape[1]
        embedding = dict(type="CodebookEmbedding", num_embeddings=config["vocab_size"], codebook_dims=dims)
    model = DeLVM(
        tokenizer=tokenizer,
        backbone=_backbone(config, weights, max_positions, tensor_parts),
        embedding=embedding,
        head=dict(type="NextTokenHead", num_embeddings=config["vocab_size"]),
    )
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    joined = {name: _join(name, values, shapes.get(name), folder) for name, values in weights.items()}
    if codebook is not None and "embedding.codebook" in shapes:
        joined["embedding.codebook"] = codebook
    load_into(model, joined | dict(tokenizer_digest=model.tokenizer_digest), source=folder)
    return model.eval()


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG_FILE}; copy it from the training's checkpoint folder")
    config = load_checkpoint(path)
    needed = ("num_attention_heads", "hidden_size", "num_layers", "vocab_size")
    if missing := [name for name in needed if not isinstance(config.get(name), int)]:
        raise ValueError(f"{path} lacks {', '.join(missing)}; expected InternLM's model_config")
    if config.get("norm_type", "rmsnorm") != "rmsnorm":
        raise ValueError(f"{path}: norm_type is {config['norm_type']!r}, expected 'rmsnorm'")
    return config


def _read_parts(folder: Path) -> list[list[dict[str, Tensor]]]:
    """Weights by pipeline stage and tensor-parallel part."""
    files = {(int(found[2]), int(found[1])): entry for entry in folder.iterdir() if (found := _PART.match(entry.name))}
    if not files:
        raise FileNotFoundError(f"{folder} has no model_tp0_pp0.pt; expected the parts of an InternLM checkpoint")
    num_stages, num_parts = (max(numbers) + 1 for numbers in zip(*files, strict=True))
    missing = [
        f"model_tp{part}_pp{stage}.pt"
        for stage in range(num_stages)
        for part in range(num_parts)
        if (stage, part) not in files
    ]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}: it has parts of {num_stages} pipeline stages and {num_parts} "
            "tensor-parallel ones; copy all of them"
        )
    return [
        [
            {name.removeprefix("model."): value for name, value in load_state_dict(files[stage, part]).items()}
            for part in range(num_parts)
        ]
        for stage in range(num_stages)
    ]


def _by_layer(stages: list[list[dict[str, Tensor]]], folder: Path) -> dict[str, list[Tensor]]:
    """Name, layers numbered through all stages -> its tensor-parallel parts."""
    joined: dict[str, list[Tensor]] = {}
    before = 0
    for parts in stages:
        layers = 0
        for name in dict.fromkeys(name for part in parts for name in part):
            found = _BLOCK.match(name)
            layers = max(layers, int(found[1]) + 1) if found else layers
            whole = f"blocks.{before + int(found[1])}.{found[2]}" if found else name
            if whole in joined:
                raise ValueError(f"{folder}: {name} is in two pipeline stages; are the files of one checkpoint?")
            # The bias of a row-parallel layer is in the first part alone.
            joined[whole] = [part[name] for part in parts if name in part]
        before += layers
    return joined


def _our_names(parts: dict[str, list[Tensor]], heads: int) -> dict[str, list[Tensor]]:
    weights: dict[str, list[Tensor]] = {}
    for name, values in parts.items():
        if "rotary_emb" in name:
            continue
        kind = name.rpartition(".")[2]
        if found := _BLOCK.match(name):
            layer, inner = f"backbone.layers.{found[1]}", found[2].removesuffix(f".{kind}")
            if inner == "mixer.Wqkv":
                # Each part holds queries, keys and values of its heads, one after another.
                for number, letter in enumerate("qkv"):
                    thirds = [value.chunk(3)[number] for value in values]
                    weights[f"{layer}.self_attn.{letter}_proj.{kind}"] = thirds
            else:
                weights[f"{layer}.{_NAMES.get(inner, inner)}.{kind}"] = values
        else:
            outside = {
                "embedding.embed_proj": "embedding.projection",
                "head": "head.projection",
                "norm": "backbone.norm",
            }
            stem = name.removesuffix(f".{kind}")
            weights[f"{outside.get(stem, stem)}.{kind}"] = values
    return weights


def _backbone(
    config: dict[str, Any], weights: dict[str, list[Tensor]], max_positions: int, tensor_parts: int
) -> dict[str, Any]:
    first = "backbone.layers.0"
    gate = weights.get(f"{first}.mlp.gate_proj.weight")
    if gate is None:
        raise ValueError("the checkpoint has no blocks.0.mlp.w1.weight: it is none of InternLM's LLaMA")
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_kv_attention_heads") or heads
    return dict(
        type="LLaMA",
        arch=dict(
            embed_dims=config["hidden_size"],
            num_layers=config["num_layers"],
            num_heads=heads,
            feedforward_channels=gate[0].shape[0] * tensor_parts,
        ),
        num_kv_heads=kv_heads,
        max_positions=max_positions,
        qkv_bias=f"{first}.self_attn.q_proj.bias" in weights,
        norm_eps=config.get("layer_norm_epsilon", 1e-5),
        rope_base=config.get("rope_base", 10000.0),
    )


def _join(name: str, values: list[Tensor], shape: torch.Size | None, folder: Path) -> Tensor:
    """One tensor of its parts: they are the same, or follow one another along the dimension that is short."""
    if shape is None or values[0].shape == shape:
        if any(not torch.equal(value, values[0]) for value in values[1:]):
            raise ValueError(f"{folder}: the tensor-parallel parts of {name} differ; are they of one checkpoint?")
        return values[0].float()
    for dim in range(values[0].ndim):
        rest = [size for axis, size in enumerate(values[0].shape) if axis != dim]
        wanted = [size for axis, size in enumerate(shape) if axis != dim]
        if len(shape) == values[0].ndim and rest == wanted and sum(value.shape[dim] for value in values) == shape[dim]:
            return torch.cat(values, dim).float()
    parts = ", ".join(str(tuple(value.shape)) for value in values)
    raise ValueError(
        f"{folder}: {name} has parts of {parts}, which do not make {tuple(shape)}: a tensor-parallel part is missing, "
        f"or {CONFIG_FILE} is of another checkpoint"
    )


def _check_rotary(parts: dict[str, list[Tensor]], config: dict[str, Any], folder: Path) -> None:
    base = config.get("rope_base", 10000.0)
    for name, values in parts.items():
        if name.endswith("rotary_emb.inv_freq"):
            half = len(values[0])
            expected = base ** (-torch.arange(half, dtype=torch.float64) / half)
            if not torch.allclose(values[0].double(), expected, rtol=1e-2, atol=1e-6):
                raise ValueError(
                    f"{folder}: {name} are not the frequencies of base {base}; set rope_base in {CONFIG_FILE}"
                )


def _tokenizer(given: Any, inside: dict[str, Tensor], folder: Path, resolution: int) -> nn.Module | None:
    if given is None and not inside:
        return None
    if given is None:
        shapes = {name: tuple(value.shape) for name, value in inside.items()}
        tokenizer = VQGAN(**config_of_shapes(shapes, folder, resolution))
        load_into(tokenizer, inside, source=f"{folder} ({_TOKENIZER}*)")
        return load_tokenizer(tokenizer)
    tokenizer = load_tokenizer(given)
    state = tokenizer.state_dict()
    differ = [name for name, value in inside.items() if name not in state or not _same(value, state[name])]
    if differ:
        raise ValueError(
            f"{folder} was trained with another tokenizer than the one given: {differ[0]} differs; give that one, or "
            "none to take the one inside"
        )
    return tokenizer


def _same(stored: Tensor, own: Tensor) -> bool:
    # Stored in half precision, perhaps.
    return stored.shape == own.shape and torch.allclose(stored.float(), own.float(), rtol=1e-2, atol=1e-4)
