"""The shipped configs of tokenizer training: they build at full size, and run when made small."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODEL_WRAPPERS, init_default_scope
from mmengine.runner import Runner
from PIL import Image

from delvm_mm.engine import SelfAveragingModel
from delvm_mm.models import VQGAN, load_tokenizer
from delvm_mm.registry import MODELS
from helpers import ROOT

CONFIGS = ROOT / "configs"
SMALL = dict(
    resolution=32, hidden_channels=8, num_res_blocks=1, z_channels=8, num_embeddings=32, quantized_embed_dim=8,
    norm_num_groups=4,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "grid", "parameters"), [("vqgan_f16_8192", 16, 146_244_675), ("vqgan_f8_8192", 32, None)]
)
def test_full_size_models_build(name, grid, parameters):
    cfg = Config.fromfile(CONFIGS / "vqgan" / f"{name}.py")
    init_default_scope(cfg.default_scope)
    cfg.model.perceptual = None
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
        assert model.vqgan.to_vectors(torch.rand(1, 3, 256, 256)).shape == (1, 64, grid, grid)
    # As MMEngine's runner looks the wrapper up, which knows no default scope there.
    assert MODEL_WRAPPERS.get(cfg.model_wrapper_cfg.type) is SelfAveragingModel
    if parameters:  # as diffusers counts them, see test_vqgan.py
        assert sum(value.numel() for value in model.vqgan.parameters()) == parameters


@pytest.mark.parametrize("name", ["vqgan_f16_8192", "vqgan_f8_8192"])
def test_adversarial_configs_train_and_validate_on_a_folder_of_images(tmp_path, name):
    for split in ("train", "val"):
        (tmp_path / split / "more").mkdir(parents=True)
        for i in range(3):
            image = np.random.RandomState(i).randint(256, size=(40, 52, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / split / "more" / f"{i}.png")
    cfg = Config.fromfile(CONFIGS / "vqgan" / f"{name}.py")
    cfg.model.vqgan.update(SMALL)
    cfg.model.update(perceptual=None, disc_start=1, discriminator=dict(base_channels=4, num_layers=1))
    for split in ("train", "val"):
        loader = cfg[f"{split}_dataloader"]
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(tmp_path / split)
        for step in loader.dataset.pipeline:
            if "size" in step:
                step.size = 32
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.work_dir, cfg.experiment_name = str(tmp_path / "run"), f"small_{name}"
    cfg.default_hooks.reconstruction.interval = 1
    cfg.default_hooks.save_tokenizer.out_dir = str(tmp_path / "pretrained")
    cfg.visualizer.vis_backends = cfg.visualizer.vis_backends[:1]
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.message_hub.get_scalar("train/loss_disc").current() > 0
    assert np.isfinite(runner.message_hub.get_scalar("val/reconstruction/PSNR").current())
    factor = dict(vqgan_f16_8192=16, vqgan_f8_8192=8)[name]
    assert load_tokenizer(tmp_path / "pretrained").downsample_factor == factor


@pytest.mark.parametrize("name", ["vqgan/vqgan_f16_8192_decoder", "mini/decoder"])
def test_decoder_configs_train_a_pretrained_decoder(tmp_path, name):
    VQGAN(**SMALL, channel_mult=(1, 1, 1, 2)).save_pretrained(tmp_path / "start")
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    cfg.model.vqgan.pretrained = str(tmp_path / "start")
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    for dataset in cfg.train_dataloader.dataset.datasets:
        dataset.update(size=32, length=2)
    cfg.train_cfg.update(max_iters=1, val_interval=100)
    cfg.work_dir, cfg.experiment_name = str(tmp_path / "run"), name.replace("/", "_")
    cfg.default_hooks.save_tokenizer.out_dir = str(tmp_path / "tuned")
    cfg.visualizer.vis_backends = cfg.visualizer.vis_backends[:1]
    Runner.from_cfg(cfg).train()
    start, tuned = load_tokenizer(tmp_path / "start"), load_tokenizer(tmp_path / "tuned")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(start.encode(images), tuned.encode(images))
    assert start.fingerprint == tuned.fingerprint
