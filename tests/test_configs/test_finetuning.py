"""Fine-tuning to one task from a multi-task checkpoint: Pascal-5i on a small copy of VOC, and the mini form."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from delvm_mm.models import VQGAN
from delvm_mm.registry import MODELS
from delvm_mm.stores import TokenStoreWriter
from helpers import ROOT
from helpers.layouts_people import write_voc

ARCH = dict(_delete_=True, embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32)
HELD_OUT = ("bus", "car", "cat", "chair", "cow")  # of fold 1
COMMON = """
model = dict(tokenizer=dict(pretrained='tokenizer'), backbone=dict(arch={arch}))
load_from = 'multi_task.pth'
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
train_cfg = dict(max_iters=2, val_interval=2)
"""


def run_tool(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    importlib.import_module(f"delvm_mm.commands.{name}").main()


def write_config(base, text):
    """``tiny.py``: a config of this project with a tiny model, a checkpoint of which is written too."""
    Path("tiny.py").write_text(f"_base_ = {str(ROOT / 'configs' / base)!r}\n" + COMMON.format(arch=ARCH) + text)
    config = Config.fromfile("tiny.py")
    torch.manual_seed(7)
    weights = MODELS.build(config.model).state_dict()
    torch.save(dict(state_dict=weights, meta={}), "multi_task.pth")
    return config, weights


def trained_weights(weights):
    """What a checkpoint holds and training may change."""
    return {
        name: value for name, value in weights.items() if not name.startswith("tokenizer") and "codebook" not in name
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    VQGAN(
        resolution=32, hidden_channels=4, channel_mult=(1, 1, 1, 1, 1), num_res_blocks=1, z_channels=4,
        num_embeddings=24, quantized_embed_dim=4, norm_num_groups=2,
    ).save_pretrained("tokenizer")  # fmt: skip
    return tmp_path


@pytest.mark.filterwarnings("ignore")
def test_pascal5i_trains_on_the_other_classes_and_is_scored_on_the_folds_own(folder, monkeypatch, capsys):
    # Every image shows one of the held-out classes beside another.
    write_voc(folder / "data", 20, 5, num_sbd=5, size=64, class_of=lambda number: (number % 20 + 1, 6 + number % 5))
    monkeypatch.setenv("PASCAL_FOLD", "1")
    workers = ["tokenization.num_workers=0", "tokenizer.pretrained=tokenizer"]
    copies = ["stores.1.num_augmented_copies=1"]
    run_tool(monkeypatch, "tokenize", ROOT / "configs/tokens/pascal5i.py", "--cfg-options", *workers, *copies)
    _, before = write_config(
        "delvm/llama300m_finetune_pascal5i.py",
        "train_dataloader = dict(num_workers=0, persistent_workers=False)\n"
        "val_dataloader = dict(num_workers=0)\n"
        "optim_wrapper = dict(optimizer=dict(lr=1.0))\n",
    )
    run_tool(monkeypatch, "train", "tiny.py", "--resume", "--work-dir", "run")
    log = capsys.readouterr()
    logged = log.out + log.err
    assert all(f"pascal5i/IoU_{name}: " in logged for name in HELD_OUT)
    assert "pascal5i/IoU_aeroplane" not in logged and "data/tokens/train/pascal5i_fold1_augmented" in logged
    after = torch.load("run/iter_2.pth", weights_only=False)["state_dict"]
    assert any(not torch.equal(value, after[name]) for name, value in trained_weights(before).items())


@pytest.mark.filterwarnings("ignore")
def test_the_mini_form_starts_from_the_multi_task_weights(folder, monkeypatch):
    fingerprint = VQGAN.from_pretrained("tokenizer").fingerprint
    for split in ("train", "val"):
        writer = TokenStoreWriter(
            f"stores/{split}", clip_shape=(2, 16), grid=(4, 4), num_embeddings=24, tokenizer_fingerprint=fingerprint,
            task="seg", source="random", seed=0, num_augmented_copies=0, shard_clips=16,
        )  # fmt: skip
        writer.add(np.random.RandomState(0).randint(24, size=(16, 2, 16)).astype(np.uint16))
        writer.finish()
    # With a learning rate of 0 what comes out is what was loaded.
    config, before = write_config(
        "mini/finetune_seg.py",
        "param_scheduler = []\noptim_wrapper = dict(optimizer=dict(lr=0.0))\n"
        "train_dataloader = dict(dataset=dict(stores=['stores/train'], context=64))\n"
        "val_dataloader = dict(dataset=dict(stores=['stores/val'], context=64))\n",
    )
    assert list(config.tasks) == ["seg"]
    run_tool(monkeypatch, "train", "tiny.py", "--resume", "--work-dir", "run")
    after = torch.load("run/iter_2.pth", weights_only=False)["state_dict"]
    for name, value in trained_weights(before).items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0, msg=name)


def test_the_mini_form_continues_the_students_checkpoint_on_its_stores():
    mini = Config.fromfile(ROOT / "configs/mini/finetune_seg.py")
    student = Config.fromfile(ROOT / "configs/mini/student_kd.py")
    full = Config.fromfile(ROOT / "configs/delvm/llama300m_finetune_pascal5i.py")
    assert full.train_cfg.global_batch_tokens == full.auto_scale_lr.base_batch_size * 2048 == 65536
    assert mini.load_from == f"{student.work_dir}/iter_{student.train_cfg.max_iters}.pth"
    assert mini.model == student.model
    assert set(mini.train_dataloader.dataset.stores) < set(student.train_dataloader.dataset.stores)
