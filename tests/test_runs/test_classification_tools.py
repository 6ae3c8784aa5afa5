"""``tools/train.py``, ``tools/test.py`` and the FLOP counter with classification configs, ImageNet's among them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from helpers import ROOT

pytest.importorskip("mmpretrain")


def tool(name, *arguments):
    """Run a tool in a process of its own; the finished process."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "tools" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """ImageNet's layout with lists of labels: 6 images of classes 0 and 999 for training, 4 for validation."""
    root = tmp_path_factory.mktemp("imagenet")
    noise = np.random.default_rng(0)
    (root / "meta").mkdir()
    for split, count in (("train", 6), ("val", 4)):
        (root / split).mkdir()
        lines = []
        for index in range(count):
            image = noise.integers(0, 256, (40, 60, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / split / f"{index}.JPEG")
            lines.append(f"{index}.JPEG {(0, 999)[index % 2]}")
        (root / "meta" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def data_options(root):
    loaders = [f"{split}_dataloader" for split in ("train", "val", "test")]
    return [
        *(f"{loader}.dataset.data_root={root}" for loader in loaders),
        *(f"{loader}.num_workers=0" for loader in loaders),
        *(f"{loader}.persistent_workers=False" for loader in loaders),
        *(f"{loader}.batch_size=3" for loader in loaders),
    ]


@pytest.mark.parametrize("name", ["300e", "distill", "from_delvm"])
def test_imagenet_configs_build_the_published_size(name):
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS

    cfg = Config.fromfile(str(ROOT / "configs" / "imagenet" / f"visionllama80m_{name}_in1k.py"))
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build({**cfg.model, "data_preprocessor": cfg.data_preprocessor})
    stack = sum(
        value.numel() for key, value in model.backbone.named_parameters() if key.startswith(("layers.", "norm"))
    )
    assert stack == 84_990_720, "LLaMA-80M"
    # Patches and their positions, the class token, and the head.
    embeddings = 768 * (3 * 16 * 16 + 1) + 197 * 768 + 768
    assert sum(value.numel() for value in model.parameters()) == stack + embeddings + 1000 * 769
    names = [step["type"] for step in cfg.train_dataloader.dataset.pipeline]
    assert {"RandomResizedCrop", "RandAugment", "RandomErasing"} <= set(names)
    assert cfg.train_cfg.max_epochs == (100 if name == "from_delvm" else 300)


def test_two_steps_of_the_imagenet_config_at_its_full_size(imagenet, tmp_path):
    done = tool("train.py", ROOT / "configs" / "imagenet" / "visionllama80m_300e_in1k.py",
                "--work-dir", tmp_path, "--cfg-options", *data_options(imagenet), "train_cfg.max_epochs=1",
                "val_cfg=None", "val_dataloader=None", "val_evaluator=None",
                "default_hooks.logger.interval=1", "default_hooks.checkpoint=None")  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    log = next(tmp_path.glob("*/vis_data/scalars.json")).read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, log) if "loss" in line]
    # Two batches of three images of 224 px; mixed labels of 1000 classes start near the uniform distribution.
    assert len(losses) == 2 and np.allclose(losses, np.log(1000), atol=0.7)


def test_two_steps_on_an_imagenet_layout_with_a_teacher_then_a_test_and_inference(imagenet, tmp_path):
    config = tmp_path / "small.py"
    base = ROOT / "configs" / "imagenet" / "visionllama80m_distill_in1k.py"
    config.write_text(
        f"_base_ = {str(base)!r}\n"
        "arch = dict(_delete_=True, embed_dims=32, num_layers=2, num_heads=2)\n"
        "model = dict(backbone=dict(arch=arch), head=dict(in_channels=32))\n"
        "teacher = dict(_delete_=True, checkpoint=None, cfg=dict(model=dict(type='ImageClassifier',\n"
        "    backbone=dict(type='ResNet', depth=18), neck=dict(type='GlobalAveragePooling'),\n"
        "    head=dict(type='LinearClsHead', num_classes=1000, in_channels=512))))\n"
        "train_cfg = dict(max_epochs=1)\n"
        "default_hooks = dict(logger=dict(interval=1), soft_causal=dict(end=2), distillation=dict(teacher=teacher))\n"
    )
    done = tool("train.py", config, "--work-dir", tmp_path / "work", "--amp", "--cfg-options", *data_options(imagenet))
    assert done.returncode == 0, done.stderr[-2000:]
    log = next((tmp_path / "work").glob("*/vis_data/scalars.json")).read_text().splitlines()
    steps = [line for line in map(json.loads, log) if "loss_kd" in line]
    assert len(steps) == 2 and all(np.isfinite([step["loss_ce"], step["loss_kd"]]).all() for step in steps)

    scores = tmp_path / "scores.json"
    done = tool("test.py", config, tmp_path / "work" / "epoch_1.pth", "--out", scores, "--work-dir", tmp_path / "test",
                "--cfg-options", *data_options(imagenet))  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"accuracy/top1", "accuracy/top5", "test/images_per_s"} <= set(json.loads(scores.read_text())["test"])

    refused = tool("test.py", config, tmp_path / "work" / "epoch_1.pth", "--task", "seg")
    assert refused.returncode == 1 and "defines none" in refused.stderr and "Traceback" not in refused.stderr


def test_a_diverging_classifier_is_stopped_with_its_images_named_and_kept(tmp_path):
    options = ["train_dataloader.dataset.length=64", "train_dataloader.batch_size=4", "train_dataloader.num_workers=0",
               "train_dataloader.persistent_workers=False", "optim_wrapper.optimizer.lr=1e30",
               "default_hooks.guard.max_skipped=3", "default_hooks.logger.interval=1"]  # fmt: skip
    config = ROOT / "configs" / "mini" / "visionllama_scenes.py"
    done = tool("train.py", config, "--work-dir", tmp_path, "--cfg-options", *options)
    assert done.returncode == 1
    assert "3 steps in a row" in done.stderr and "Lower the learning rate" in done.stderr
    skipped = [line for line in (done.stdout + done.stderr).splitlines() if "skipped step" in line]
    assert len(skipped) == 3 and all("images procedural/" in line for line in skipped)
    saved = torch.load(tmp_path / "non_finite_batch.pth", weights_only=True)
    assert len(saved["batches"][0]["inputs"]) == 4


def test_the_inferencer_of_mmpretrain_names_the_class_of_an_image(tmp_path, monkeypatch):
    from mmengine.registry import DefaultScope
    from mmpretrain import ImageClassificationInferencer
    from mmpretrain.registry import MODELS

    from delvm_mm.datasets import ProceduralClasses

    path = ROOT / "configs" / "mini" / "visionllama_scenes.py"
    cfg = Config.fromfile(str(path))
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build({**cfg.model, "data_preprocessor": cfg.data_preprocessor}).eval()
        model.init_weights()
    torch.nn.init.normal_(model.head.layers.head.weight)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=ProceduralClasses.METAINFO)),
               tmp_path / "model.pth")  # fmt: skip
    image = ProceduralClasses(size=cfg.size, length=1)[0]["img"]
    Image.fromarray(image).save(tmp_path / "image.png")
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        inferencer = ImageClassificationInferencer(str(path), str(tmp_path / "model.pth"), device="cpu")
        answer = inferencer(str(tmp_path / "image.png"))[0]
    normalized = (torch.from_numpy(image).permute(2, 0, 1)[None].float() - 127.5) / 64  # RGB, as it was drawn
    with torch.no_grad():
        expected = model.head(model.backbone(normalized)).softmax(1)[0]
    np.testing.assert_allclose(answer["pred_scores"], expected, atol=1e-5)
    assert answer["pred_class"] == ProceduralClasses.METAINFO["classes"][int(expected.argmax())]


def test_flops_are_printed_with_attention():
    done = tool("analysis/get_flops.py", ROOT / "configs" / "mini" / "visionllama_scenes.py")
    assert done.returncode == 0, done.stderr[-2000:]
    cfg = Config.fromfile(str(ROOT / "configs" / "mini" / "visionllama_scenes.py"))
    arch, tokens = cfg.model.backbone.arch, (cfg.size // cfg.model.backbone.patch_size) ** 2 + 1
    width, patch = arch.embed_dims, cfg.model.backbone.patch_size**2 * 3
    layer = tokens * (4 * width**2 + 3 * width * arch.feedforward_channels) + 2 * tokens**2 * width
    products = (tokens - 1) * patch * width + arch.num_layers * layer + width * 10
    assert f"FLOPs {products / 1e9:.2f} G" in done.stdout
