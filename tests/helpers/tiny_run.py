"""A training run small enough for a test: random token stores, a two-layer student, a teacher's checkpoint."""

import numpy as np
import torch
from mmengine.config import Config

from delvm_mm.registry import MODELS
from delvm_mm.stores import TokenStoreWriter

TOKENIZER = dict(
    type="VQGAN",
    resolution=16,
    hidden_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    z_channels=8,
    num_embeddings=24,
    quantized_embed_dim=8,
)


def model_config(embed_dims, **changes):
    backbone = dict(type="LLaMA", arch=dict(embed_dims=embed_dims, num_layers=2, num_heads=4), max_positions=64)
    return (
        dict(
            type="DeLVM",
            tokenizer=dict(pretrained="tokenizer", type="VQGAN"),
            backbone=backbone,
            embedding=dict(type="CodebookEmbedding"),
            head=dict(type="NextTokenHead"),
        )
        | changes
    )


def write_store(folder, fingerprint, task="seg", clips=24, codes=24):
    writer = TokenStoreWriter(
        folder,
        clip_shape=(2, 16),
        grid=(4, 4),
        num_embeddings=codes,
        tokenizer_fingerprint=fingerprint,
        task=task,
        source="random",
        seed=0,
        num_augmented_copies=0,
        shard_clips=16,
    )
    writer.add(np.random.RandomState(len(task)).randint(codes, size=(clips, 2, 16)).astype(np.uint16))
    writer.finish()


def make_run_folder(folder):
    """Write ``student.py``, ``teacher.py``, ``teacher.pth``, a tokenizer and stores into the working directory."""
    torch.manual_seed(0)
    tokenizer = MODELS.build(TOKENIZER)
    tokenizer.save_pretrained("tokenizer")
    for task in ("seg", "pose"):
        write_store(folder / "stores" / task, tokenizer.fingerprint, task)
    teacher = MODELS.build(model_config(48))
    with torch.no_grad():  # opinions strong enough that a student has something to learn
        teacher.head.projection.weight.mul_(100)
    torch.save(dict(state_dict=teacher.state_dict(), meta={}), "teacher.pth")
    Config(dict(model=model_config(48))).dump("teacher.py")
    Config(
        dict(
            default_scope="delvm_mm",
            model=model_config(32),
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type="SentenceSampler", seed=0),
                collate_fn=dict(type="default_collate"),
                dataset=dict(type="VisualSentenceDataset", stores=["stores/seg", "stores/pose"], context=64),
            ),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=40, val_interval=1000),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-2), clip_grad=dict(max_norm=1)),
            param_scheduler=[dict(type="CosineAnnealingLR", by_epoch=False, end=40)],
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1),
                checkpoint=dict(type="SafeCheckpointHook", by_epoch=False, interval=4),
            ),
            custom_hooks=[
                dict(type="TokenizerCheckHook"),
                dict(type="NonFiniteGuardHook"),
                dict(type="ThroughputHook"),
                dict(type="DistillationHook", teacher=dict(cfg="teacher.py", checkpoint="teacher.pth")),
            ],
            log_processor=dict(by_epoch=False, window_size=1),
            visualizer=dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")]),
            randomness=dict(seed=0),
        )
    ).dump("student.py")
