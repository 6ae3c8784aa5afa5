# A small VisionLLaMA on ten classes of drawn objects (five shapes, plain or checked), trained from scratch and scored
# on held-out images at the end.
_base_ = '../_base_/classification_runtime.py'

size, max_epochs = 48, 24
data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[64.0] * 3, to_rgb=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='delvm_mm.VisionLLaMA',
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=384),
        img_size=size,
        patch_size=12,
        attention='soft',
        with_pos_embed=True,
        # The usual 0.02 is for wider models and long schedules; this one has minutes.
        init_std=0.07),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
images = dict(type='delvm_mm.ProceduralClasses', size=size, seed=0, channel_order='bgr')
test_pipeline = [dict(type='Resize', scale=size), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        start=0,
        length=8192,
        cache=True,
        pipeline=[
            dict(type='RandomFlip', prob=0.5),
            dict(type='RandomCrop', crop_size=size, padding=3, padding_mode='edge'),
            dict(type='PackInputs')
        ],
        **images))
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(start=1_000_000, length=500, cache=True, pipeline=test_pipeline, **images))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = dict(
    batch_size=100,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(start=2_000_000, length=1000, pipeline=test_pipeline, **images))
test_evaluator = val_evaluator
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.99), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., flat_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=True, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=3, end=max_epochs, convert_to_iter_based=True)
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=4)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(
    logger=dict(interval=32),
    checkpoint=dict(save_best=None),
    soft_causal=dict(type='delvm_mm.SoftCausalHook', end=max_epochs // 2))
