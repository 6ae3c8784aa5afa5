"""Panels of answers during validation."""

from types import SimpleNamespace

import pytest

from delvm_mm.engine import ValidationPanelHook
from delvm_mm.models import VQGAN
from delvm_mm.registry import MODELS

VQGAN_CONFIG = dict(
    resolution=32, hidden_channels=8, channel_mult=(1, 2, 2), num_res_blocks=1, z_channels=8, num_embeddings=32,
    quantized_embed_dim=8, norm_num_groups=4,
)  # fmt: skip


def test_validation_answers_a_few_prompts_of_each_task_for_the_visualizer(tmp_path):
    VQGAN(**VQGAN_CONFIG).save_pretrained(tmp_path)
    model = MODELS.build(
        dict(
            type="DeLVM",
            tokenizer=str(tmp_path),
            backbone=dict(type="LLaMA", arch=dict(embed_dims=32, num_layers=1, num_heads=2), max_positions=256),
            embedding=dict(type="CodebookEmbedding"),
            head=dict(type="NextTokenHead"),
        )
    ).train()
    shown = []
    visualizer = SimpleNamespace(add_image=lambda name, image, step: shown.append((name, image.ndim, step)))
    runner = SimpleNamespace(model=model, visualizer=visualizer, iter=7)
    drawn = [dict(type="DrawLabel", codec=dict(type="RestorationCodec"))]
    clips = dict(type="ProceduralScenes", task="derain", size=32, length=4, pipeline=drawn)
    hook = ValidationPanelHook(dict(derain=dict(type="VisionPromptDataset", support=clips, query=clips, num_pairs=1)))
    hook.before_train(runner)
    hook.after_val_epoch(runner)
    assert shown == [("derain_0", 3, 7), ("derain_1", 3, 7)]
    assert model.training


def test_panels_of_no_sample_are_refused():
    with pytest.raises(ValueError, match="expected 1 or more"):
        ValidationPanelHook({}, num_samples=0)
