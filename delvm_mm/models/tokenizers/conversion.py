"""Tokenizers of other libraries: diffusers' ``VQModel`` and taming-transformers' checkpoints, read and written.

All have the architecture of Esser et al., "Taming Transformers for High-Resolution Image Synthesis" (CVPR 2021), under
three sets of names. ``VQGAN.from_pretrained`` and ``save_pretrained`` are openMUSE's.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.checkpoints.io import load_into, load_state_dict
from delvm_mm.models.tokenizers.vqgan import VQGAN

_DIFFUSERS_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_DIFFUSERS_NAMES = {
    "norm_out": "conv_norm_out",
    "nin_shortcut": "conv_shortcut",
    "block_1": "resnets.0",
    "block_2": "resnets.1",
    "attn_1": "attentions.0",
    "attn": "attentions",
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    "block": "resnets",
    "mid": "mid_block",
    "down": "down_blocks",
    "up": "up_blocks",
    "downsample": "downsamplers.0",
    "upsample": "upsamplers.0",
}
# Before diffusers 0.15.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# Arguments of ``VQGAN`` that no other library has.
_OWN = ("norm", "padding_mode", "linear_skip", "unit_vectors")
_TAMING_LEAVES_OUT = re.compile(r"quantize\.(embedding\.)?(cluster_size|embed_avg|initted)$")


def vqgan_from_diffusers(folder: str | Path, symmetric_pixels: bool = False, resolution: int = 256) -> VQGAN:
    """Read a folder of diffusers' ``VQModel``, such as ``vqvae`` of aMUSEd; diffusers itself is not needed.

    Args:
        folder: Holds ``config.json`` and ``diffusion_pytorch_model.safetensors`` or ``.bin``.
        symmetric_pixels: Whether it was trained on images in [-1, 1], which no file says: aMUSEd's was not, those of
            latent diffusion were.
        resolution: Side in pixels of its training images; a name for where attention is, nothing else.

    Returns:
        In eval mode.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, or the model has something that ``VQGAN`` has not.
    """
    path = Path(folder) / "config.json"
    weights = [Path(folder) / name for name in _DIFFUSERS_WEIGHTS if (Path(folder) / name).is_file()]
    if not path.is_file() or not weights:
        raise FileNotFoundError(f"{folder} is no folder of a VQModel: expected config.json and {_DIFFUSERS_WEIGHTS[0]}")
    try:
        config = dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a JSON object ({error}). Copy or download it again") from error
    vqgan = VQGAN(**_vqgan_config(config, path, resolution), symmetric_pixels=symmetric_pixels)
    given = {_new_attention(name): value for name, value in load_state_dict(weights[0]).items()}
    levels = len(vqgan.config["channel_mult"])
    names = {name: diffusers_name(name, levels) for name in vqgan.state_dict()}
    own = {
        # Attention is written with linear layers or with 1x1 convolutions.
        name: given[names[name]].view(value.shape)
        if given[names[name]].numel() == value.numel()
        else given[names[name]]
        for name, value in vqgan.state_dict().items()
        if names[name] in given
    }
    own |= {name: given[name] for name in given if name not in set(names.values())}
    load_into(vqgan, own, weights[0])
    return vqgan.eval()


def save_as_diffusers(vqgan: VQGAN, folder: str | Path) -> None:
    """Write a folder that ``diffusers.VQModel.from_pretrained`` reads; each file appears whole or not at all.

    The VQModel works on images in [0, 1], as aMUSEd's does, or in [-1, 1] where ``vqgan.symmetric_pixels`` is set.

    Raises:
        ValueError: The tokenizer has something that VQModel has not.
    """
    config, levels = vqgan.config, len(vqgan.config["channel_mult"])
    _refuse_own_layers(config, "diffusers")
    if not config["resample_with_conv"]:
        raise ValueError("diffusers' VQModel always resamples with convolutions, this tokenizer does not")
    attends = [config["resolution"] // 2**level in config["attn_resolutions"] for level in range(levels)]
    _refuse_single_attention(any(attends), config["num_res_blocks"], "this tokenizer", "diffusers")
    written = {
        "_class_name": "VQModel",
        "act_fn": "silu",
        "block_out_channels": [config["hidden_channels"] * multiple for multiple in config["channel_mult"]],
        "down_block_types": [f"{'Attn' * attend}DownEncoderBlock2D" for attend in attends],
        "force_upcast": True,
        "in_channels": config["num_channels"],
        "latent_channels": config["z_channels"],
        "layers_per_block": config["num_res_blocks"],
        "lookup_from_codebook": True,
        "mid_block_add_attention": not config["no_attn_mid_block"],
        "norm_num_groups": config["norm_num_groups"],
        "norm_type": "group",
        "num_vq_embeddings": config["num_embeddings"],
        "out_channels": config["num_channels"],
        "sample_size": config["resolution"],
        "up_block_types": [f"{'Attn' * attend}UpDecoderBlock2D" for attend in reversed(attends)],
        "vq_embed_dim": config["quantized_embed_dim"],
    }
    weights = {}
    for name, value in vqgan.state_dict().items():
        new = diffusers_name(name, levels)
        linear = re.search(r"\.(to_q|to_k|to_v|to_out\.0)\.weight$", new)
        weights[new] = (value.flatten(1) if linear else value).detach().cpu().contiguous()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        from safetensors.torch import save

        write_atomically(folder / _DIFFUSERS_WEIGHTS[0], save(weights, {"format": "pt"}))
    except ImportError:
        write_atomically(folder / _DIFFUSERS_WEIGHTS[1], lambda file: torch.save(weights, file))
    write_atomically(folder / "config.json", (json.dumps(written, indent=2) + "\n").encode())


def vqgan_from_taming(path: str | Path, symmetric_pixels: bool = True, resolution: int = 256) -> VQGAN:
    """Read a checkpoint of taming-transformers, or of a latent diffusion model's first stage.

    Its shapes say all that is needed, so its ``.yaml`` is not read. Losses, discriminators and averaged copies in it
    are left out. Nothing in it is executed.

    Args:
        path: ``.ckpt`` with ``state_dict``, keys such as ``encoder.down.0.block.0.norm1.weight`` with or without
            ``first_stage_model.`` before them.
        symmetric_pixels: Whether it was trained on images in [-1, 1], as all published ones were.
        resolution: Side in pixels of its training images; a name for where attention is, nothing else.

    Returns:
        In eval mode.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, wants to run code, or has something that ``VQGAN`` has not.
    """
    weights = load_state_dict(path)
    prefix = "first_stage_model."
    if any(name.startswith(prefix) for name in weights):
        weights = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    if "quantize.embed.weight" in weights:
        raise ValueError(
            f"{path} is a Gumbel-softmax VQGAN (it has quantize.embed.weight), whose tokens are not nearest codes: "
            "expected one with quantize.embedding.weight, for example vqgan_imagenet_f16_16384"
        )
    if "quantize.embedding.weight" not in weights or "encoder.conv_in.weight" not in weights:
        raise ValueError(
            f"{path} is no VQGAN of taming-transformers: expected encoder.conv_in.weight and quantize.embedding.weight "
            f"in it, its names look like {', '.join(list(weights)[:5])}"
        )
    parts = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.")
    weights = {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights.items()
        if name.startswith(parts) and not _TAMING_LEAVES_OUT.search(name)
    }
    config = config_of_shapes({name: tuple(value.shape) for name, value in weights.items()}, path, resolution)
    _refuse_single_attention(bool(config["attn_resolutions"]), config["num_res_blocks"], str(path), "openMUSE")
    vqgan = VQGAN(**config, symmetric_pixels=symmetric_pixels)
    load_into(vqgan, weights, path)
    return vqgan.eval()


def save_as_taming(vqgan: VQGAN, path: str | Path) -> None:
    """Write a checkpoint for ``taming.models.vqgan.VQModel``, and its config beside it as ``.yaml``.

    That class always has attention in the middle; where the tokenizer has none, one is written that adds zero. It
    works on images in [-1, 1] where ``vqgan.symmetric_pixels`` is set, otherwise in [0, 1], which taming-transformers
    does not feed by itself.

    Raises:
        ValueError: The tokenizer has something that taming-transformers has not.
    """
    config = vqgan.config
    _refuse_own_layers(config, "taming-transformers")
    if config["norm_num_groups"] != 32:
        raise ValueError(f"taming-transformers normalizes in 32 groups, this tokenizer in {config['norm_num_groups']}")
    attends = bool(set(config["attn_resolutions"]) & {config["resolution"] // 2**i for i in range(9)})
    _refuse_single_attention(attends, config["num_res_blocks"], "this tokenizer", "taming-transformers")
    weights = {name: value.detach().cpu().contiguous() for name, value in vqgan.state_dict().items()}
    if config["no_attn_mid_block"]:
        width = config["hidden_channels"] * config["channel_mult"][-1]
        for part in ("encoder", "decoder"):
            name = f"{part}.mid.attn_1"
            weights |= {f"{name}.norm.weight": torch.ones(width), f"{name}.norm.bias": torch.zeros(width)}
            for layer in ("q", "k", "v", "proj_out"):
                weights[f"{name}.{layer}.weight"] = torch.zeros(width, width, 1, 1)
                weights[f"{name}.{layer}.bias"] = torch.zeros(width)
    params = {
        "embed_dim": config["quantized_embed_dim"],
        "n_embed": config["num_embeddings"],
        "ddconfig": {
            "double_z": False,
            "z_channels": config["z_channels"],
            "resolution": config["resolution"],
            "in_channels": config["num_channels"],
            "out_ch": config["num_channels"],
            "ch": config["hidden_channels"],
            "ch_mult": list(config["channel_mult"]),
            "num_res_blocks": config["num_res_blocks"],
            "attn_resolutions": list(config["attn_resolutions"]),
            "dropout": config["dropout"],
            "resamp_with_conv": config["resample_with_conv"],
        },
        "lossconfig": {"target": "taming.modules.losses.vqperceptual.DummyLoss"},
    }
    text = yaml.safe_dump({"model": {"target": "taming.models.vqgan.VQModel", "params": params}}, sort_keys=False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: torch.save({"state_dict": weights}, file))
    write_atomically(path.with_suffix(".yaml"), text.encode())


def diffusers_name(name: str, levels: int) -> str:
    """Our state-dict key as diffusers has it: there decoder levels count from the lowest resolution."""
    parts = name.split(".")
    if parts[1] == "up":
        parts[2] = str(levels - 1 - int(parts[2]))
    return ".".join(_DIFFUSERS_NAMES.get(part, part) for part in parts)


def _new_attention(name: str) -> str:
    if ".attentions." not in name:
        return name
    return ".".join(_OLD_ATTENTION.get(part, part) for part in name.split("."))


def _vqgan_config(config: Mapping[str, Any], path: Path, resolution: int) -> dict[str, Any]:
    """Arguments of ``VQGAN`` from a VQModel's config, whose defaults are diffusers'."""
    kind = config.get("_class_name", "VQModel")
    if kind != "VQModel":
        raise ValueError(f"{path} is the config of a {kind}, expected a VQModel")
    for name, default, valid in (
        ("act_fn", "silu", ("silu", "swish")),
        ("norm_type", "group", ("group",)),
        ("out_channels", 3, (config.get("in_channels", 3),)),
    ):
        if config.get(name, default) not in valid:
            raise ValueError(f"{path}: {name} is {config[name]!r}, VQGAN has {valid[0]!r} only")
    widths = config.get("block_out_channels", [64])
    down = config.get("down_block_types", ["DownEncoderBlock2D"])
    up = config.get("up_block_types", ["UpDecoderBlock2D"])
    attends = [kind == "AttnDownEncoderBlock2D" for kind in down]
    known = {"DownEncoderBlock2D", "AttnDownEncoderBlock2D"} >= set(down)
    mirrored = [f"{'Attn' * attend}UpDecoderBlock2D" for attend in reversed(attends)]
    if not known or list(up) != mirrored or len(down) != len(widths):
        raise ValueError(
            f"{path}: down_block_types {list(down)} and up_block_types {list(up)} do not fit VQGAN: expected "
            "(Attn)DownEncoderBlock2D for each of block_out_channels, and the same in reverse order for up"
        )
    if any(width % widths[0] for width in widths):
        raise ValueError(f"{path}: block_out_channels {list(widths)} must be multiples of the first, {widths[0]}")
    _refuse_single_attention(any(attends), config.get("layers_per_block", 1), str(path), "openMUSE")
    latent = config.get("latent_channels", 3)
    return {
        "resolution": resolution,
        "num_channels": config.get("in_channels", 3),
        "hidden_channels": widths[0],
        "channel_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config.get("layers_per_block", 1),
        "attn_resolutions": [resolution // 2**level for level, attend in enumerate(attends) if attend],
        "no_attn_mid_block": not config.get("mid_block_add_attention", True),
        "z_channels": latent,
        "num_embeddings": config.get("num_vq_embeddings", 256),
        "quantized_embed_dim": config.get("vq_embed_dim") or latent,
        "norm_num_groups": config.get("norm_num_groups", 32),
    }


def config_of_shapes(shapes: Mapping[str, tuple[int, ...]], path: str | Path, resolution: int) -> dict[str, Any]:
    """Arguments of ``VQGAN`` from the shapes of its weights.

    Args:
        shapes: Names as ``VQGAN`` and taming-transformers have them.
        path: Where they are from, for the message.
        resolution: Side in pixels of its training images; a name for where attention is.

    Returns:
        Those that differ from tokenizer to tokenizer.

    Raises:
        ValueError: They are not those of a whole ``VQGAN``.
    """
    blocks = [re.match(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv1\.weight$", name) for name in shapes]
    numbers = [(int(found[1]), int(found[2])) for found in blocks if found]
    needed = ("encoder.conv_out.weight", "quant_conv.weight", "encoder.down.0.block.0.conv1.weight")
    if missing := [name for name in needed if name not in shapes]:
        raise ValueError(f"{path} is no whole VQGAN of taming-transformers: {', '.join(missing)} is missing")
    levels, num_res_blocks = (max(column) + 1 for column in zip(*numbers, strict=True))
    hidden, channels = shapes["encoder.conv_in.weight"][:2]
    widths = [shapes.get(f"encoder.down.{level}.block.0.conv1.weight", (0,))[0] for level in range(levels)]
    attends = [f"encoder.down.{level}.attn.0.q.weight" in shapes for level in range(levels)]
    if any(width == 0 or width % hidden for width in widths):
        raise ValueError(f"{path}: the encoder's levels have {widths} channels, expected multiples of {hidden}")
    z_channels = shapes["encoder.conv_out.weight"][0]
    if z_channels != shapes["quant_conv.weight"][1]:
        raise ValueError(
            f"{path}: the encoder gives {z_channels} channels and the codebook's projection takes "
            f"{shapes['quant_conv.weight'][1]}; VQGAN has no such tokenizer (is double_z set?)"
        )
    return {
        "resolution": resolution,
        "num_channels": channels,
        "hidden_channels": hidden,
        "channel_mult": [width // hidden for width in widths],
        "num_res_blocks": num_res_blocks,
        "attn_resolutions": [resolution // 2**level for level, attend in enumerate(attends) if attend],
        "no_attn_mid_block": "encoder.mid.attn_1.q.weight" not in shapes,
        "z_channels": z_channels,
        "num_embeddings": shapes["quantize.embedding.weight"][0],
        "quantized_embed_dim": shapes["quantize.embedding.weight"][1],
        "resample_with_conv": levels == 1 or "encoder.down.0.downsample.conv.weight" in shapes,
    }


def _refuse_own_layers(config: dict, library: str) -> None:
    own = [f"{name}={config[name]!r}" for name in _OWN if name in config]
    if own:
        raise ValueError(
            f"{library} has no layers with {' and '.join(own)}, as this tokenizer has: it cannot be written"
        )


def _refuse_single_attention(attends: bool, num_res_blocks: int, source: str, other: str) -> None:
    """A level of one block with attention: openMUSE keeps the weights and does not use them, the others do."""
    if attends and num_res_blocks == 1:
        raise ValueError(
            f"{source} has attention in levels of a single residual block, which openMUSE's architecture does not "
            f"apply and {'the others do' if other == 'openMUSE' else f'{other} does'}: it cannot be converted"
        )
