"""Hooks that show and save: validation panels, throughput, the trained tokenizer."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from delvm_mm.engine import ThroughputHook, ValidationPanelHook
from delvm_mm.models import VQGAN, load_tokenizer
from delvm_mm.registry import MODELS

NUMBERS = itertools.count()
VQGAN_CONFIG = dict(
    resolution=32, hidden_channels=8, channel_mult=(1, 2, 2), num_res_blocks=1, z_channels=8, num_embeddings=32,
    quantized_embed_dim=8, norm_num_groups=4,
)  # fmt: skip


def scenes(task, codec, last):
    return dict(
        type="ProceduralScenes", task=task, size=32, length=4, pipeline=[dict(type="DrawLabel", codec=codec), *last]
    )


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
    clips = scenes("derain", dict(type="RestorationCodec"), [])
    hook = ValidationPanelHook(dict(derain=dict(type="VisionPromptDataset", support=clips, query=clips, num_pairs=1)))
    hook.before_train(runner)
    hook.after_val_epoch(runner)
    assert shown == [("derain_0", 3, 7), ("derain_1", 3, 7)]
    assert model.training


def test_throughput_counts_the_tokens_of_all_sentences_since_the_last_value(monkeypatch):
    clock = iter([10.0, 12.0, 13.0])
    monkeypatch.setattr("delvm_mm.engine.hooks.throughput_hook.time.perf_counter", lambda: next(clock))
    logged = {}
    runner = SimpleNamespace(iter=0, message_hub=SimpleNamespace(update_scalar=logged.__setitem__))
    hook = ThroughputHook(interval=3)
    for step in range(3):
        runner.iter = step
        hook.after_train_iter(runner, step, dict(inputs=torch.zeros(4, 512)))
    # The first step only starts the clock: two batches of 2048 tokens in 3 seconds.
    assert logged == {"train/tokens_per_s": 2 * 4 * 512 / 3}


def test_testing_logs_the_images_a_second_since_its_begin(monkeypatch):
    clock = iter([10.0, 14.0, 16.0])
    monkeypatch.setattr("delvm_mm.engine.hooks.throughput_hook.time.perf_counter", lambda: next(clock))
    logged = {}
    runner = SimpleNamespace(message_hub=SimpleNamespace(update_scalar=logged.__setitem__))
    hook = ThroughputHook()
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, outputs=[None] * 8)
    assert logged == {"test/images_per_s": 8 / 4}
    hook.after_test_iter(runner, 1, outputs=[None] * 4)
    assert logged == {"test/images_per_s": 12 / 6}


def test_a_trained_tokenizer_is_saved_as_a_folder_that_configs_can_name(tmp_path):
    clips = scenes("seg", dict(type="ForegroundMaskCodec"), [dict(type="PackClip", factor=4)])
    runner = Runner.from_cfg(
        _config(
            work_dir=str(tmp_path / "run"),
            model=dict(type="VQGANTrainer", vqgan=VQGAN_CONFIG),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type="InfiniteSampler", shuffle=True, seed=0),
                collate_fn=dict(type="default_collate"),
                dataset=dict(type="CachedDataset", datasets=[clips]),
            ),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=2),
            optim_wrapper=dict(type="AutocastOptimWrapper", optimizer=dict(type="AdamW", lr=1e-3)),
            custom_hooks=[dict(type="SaveTokenizerHook", out_dir=str(tmp_path / "tokenizer"))],
            default_hooks=dict(checkpoint=None, logger=dict(type="LoggerHook", interval=1)),
        )
    )
    runner.train()
    assert load_tokenizer(tmp_path / "tokenizer").fingerprint == runner.model.vqgan.fingerprint


def test_panels_of_no_sample_are_refused():
    with pytest.raises(ValueError, match="expected 1 or more"):
        ValidationPanelHook({}, num_samples=0)


def _config(**settings):
    return Config(dict(default_scope="delvm_mm", experiment_name=f"hooks_{next(NUMBERS)}", **settings))
