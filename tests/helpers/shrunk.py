"""Configs made small enough for a test to train them: :func:`shrink`, and what they read: :func:`write_what_is_read`.

Everything keeps its type, its options and its place; only sizes and numbers shrink. Images have 32 pixels and become
4 x 4 tokens of 32 codes; models have one layer of 32 numbers; data sets have a few samples; a training has one step.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from delvm_mm.models import VQGAN
from delvm_mm.registry import MODELS, type_name
from helpers.tiny_run import write_store

SIDE, CODES, CONTEXT = 32, 32, 128
ARCH = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32)
TOKENIZER = dict(resolution=SIDE, hidden_channels=8, num_res_blocks=1, z_channels=8, num_embeddings=CODES,
                 quantized_embed_dim=8, norm_num_groups=4)  # fmt: skip
SIZED = {
    "ResizeShortSide": "size", "CenterCrop": "size", "RandomResizedCrop": "size", "RandomCrop": "size",
    "Letterbox": "size",
    "mmpretrain.RandomResizedCrop": "scale", "mmpretrain.ResizeEdge": "scale", "mmpretrain.CenterCrop": "crop_size",
    "mmpretrain.RandomCrop": "crop_size", "mmpretrain.Resize": "scale",
}  # fmt: skip


def nodes(value: Any) -> Iterator[dict]:
    """All dicts of a config, outer ones first."""
    if isinstance(value, Mapping):
        yield value
    entries = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for entry in list(entries):
        yield from nodes(entry)


def write_tokenizer(path: str = "tokenizer") -> str:
    """A tokenizer of random weights, 32 px to 4 x 4 tokens, for the configs; its fingerprint."""
    torch.manual_seed(0)
    tokenizer = VQGAN(**TOKENIZER, channel_mult=(1, 1, 1, 1))
    torch.nn.init.normal_(tokenizer.codebook)
    tokenizer.save_pretrained(path)
    return tokenizer.fingerprint


def shrink(cfg: Config) -> Config:
    """Make a config small, in place: data, model, schedule. Workers become this process; paths stay as they are."""
    scope = "mmpretrain." if cfg.get("default_scope") == "mmpretrain" else ""
    for node in nodes(cfg._cfg_dict):
        _shrink_data(node, scope)
    if cfg.get("model"):
        _shrink_model(cfg.model)
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(key) and type_name(cfg[key].dataset) in ("VisualSentenceDataset", "ImageSentenceDataset"):
            cfg[key].dataset.context = CONTEXT
            if "tokenizer" in cfg[key].dataset:
                cfg[key].dataset.tokenizer = "tokenizer"
    train = cfg.get("train_cfg") or {}
    for key in ("max_iters", "max_epochs", "val_interval"):
        if key in train:
            train[key] = 1
    if train.get("global_batch_tokens"):  # two batches a step
        train.global_batch_tokens = 2 * cfg.train_dataloader.batch_size * CONTEXT
    if cfg.get("tokenizer"):
        cfg.tokenizer = dict(type="VQGAN", pretrained="tokenizer")
    if cfg.get("visualizer"):
        cfg.visualizer.vis_backends = cfg.visualizer.vis_backends[:1]
    return cfg


def _shrink_data(node: dict, scope: str) -> None:
    kind = type_name(node)
    if (key := SIZED.get(scope + kind)) and key in node:
        node[key] = SIDE
    if kind in ("ProceduralScenes", "ProceduralClasses"):
        node.update(size=SIDE, length=min(node.get("length", 4), 4))
    if kind == "RandomCrops":
        node["size"] = SIDE // 2
    if "batch_size" in node and "dataset" in node:
        node.update(batch_size=4 if scope else 2, num_workers=0, persistent_workers=False)
    if "num_augmented_copies" in node:
        node["num_augmented_copies"] = 1
    if "num_views" in node and kind == "ImageFolderDataset":
        node["num_views"] = 1
    if node.get("indices"):
        node["indices"] = 2


def _shrink_model(model: dict) -> None:
    kind = type_name(model)
    if kind == "DeLVM":
        model.tokenizer = dict(type="VQGAN", pretrained="tokenizer")
        model.backbone.update(arch=ARCH, max_positions=CONTEXT)
        if model.get("init_cfg"):  # its one layer begins as the last of another model's
            model.init_cfg.update(checkpoint="initial.pth", layers=(-1,))
    elif kind == "ImageClassifier":
        _shrink_classifier(model)
    else:
        if "pretrained" in model.vqgan:
            model.vqgan.pretrained = "tokenizer"
        else:
            model.vqgan.update(TOKENIZER, channel_mult=(1,) * len(model.vqgan.channel_mult))
        if "continuous_steps" in model:  # the one step is one with codes
            model.continuous_steps = 0
        if "disc_start" in model:
            model.update(perceptual=None, disc_start=0, discriminator=dict(base_channels=4, num_layers=1))


def _shrink_classifier(model: dict) -> None:
    if type_name(model.backbone) == "VisionLLaMA":
        model.backbone.update(arch=ARCH, img_size=SIDE, patch_size=16)
    else:  # ConvNeXt, the teacher
        model.backbone.arch = dict(depths=[1, 1, 1, 1], channels=[8, 8, 8, 32])
    model.head.in_channels = 32


def write_what_is_read(cfg: Config, fingerprint: str, stores: Path) -> None:
    """Write token stores, checkpoints to start from and teachers of a config that is shrunk, where it names them.

    Stores are written once, into ``stores``, and linked from there.
    """
    for node in nodes([cfg.get("train_dataloader"), cfg.get("val_dataloader")]):
        for path in map(Path, node.get("stores", ())):
            if not (stores / path.name).exists():
                write_store(stores / path.name, fingerprint, task=path.name, clips=16, codes=CODES)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.symlink_to(stores / path.name)
    if cfg.get("load_from"):
        if "://" in cfg.load_from:  # shipped weights do not fit what was shrunk
            cfg.load_from = "shipped.pth"
        write_weights(cfg.model, cfg.load_from)
    if cfg.model.get("init_cfg"):
        deeper = dict(cfg.model.backbone, arch=dict(ARCH, num_layers=2))
        write_weights({**cfg.model, "backbone": deeper, "init_cfg": None}, cfg.model.init_cfg.checkpoint)
    start = (cfg.model.get("backbone") or {}).get("init_cfg")
    if start:  # the stack of another model
        stack = dict(type="DeLVM", tokenizer=dict(type="VQGAN", pretrained="tokenizer"), embedding=dict(
            type="CodebookEmbedding"), head=dict(type="NextTokenHead"),
            backbone=dict(type="LLaMA", arch=ARCH, max_positions=CONTEXT))  # fmt: skip
        write_weights(stack, start.checkpoint)
    for hook in (cfg.get("default_hooks") or {}).values():
        teacher = (hook or {}).get("teacher")
        if teacher and "cfg" in teacher:
            name, scope = _load(teacher.cfg)
            name.dump("teacher_config.py")
            teacher.cfg = "teacher_config.py"
            write_weights(name.model, teacher.checkpoint, scope)


def _load(name: str) -> tuple[Config, str]:
    if "::" in name:
        from mmengine.hub import get_config

        return shrink(get_config(name)), "mmpretrain"
    return shrink(Config.fromfile(name)), "delvm_mm"


def write_weights(model: dict, path: str, scope: str = "delvm_mm") -> None:
    """Random weights of a model as a checkpoint."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with DefaultScope.overwrite_default_scope(scope):
        built = MODELS.build({**model, "init_cfg": None} if scope == "mmpretrain" else model)
    torch.save(dict(state_dict=built.state_dict(), meta={}), path)
