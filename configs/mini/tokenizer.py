# A small VQGAN trained from nothing on pictures and label pictures of the built-in scenes.
_base_ = '_base_scenes.py'
work_dir = _base_.root + '/tokenizer'

model = dict(
    type='VQGANTrainer',
    vqgan=dict(
        resolution=64,
        hidden_channels=16,
        channel_mult=(1, 2, 4, 8),
        num_res_blocks=1,
        norm_num_groups=8,
        z_channels=32,
        num_embeddings=512,
        quantized_embed_dim=16),
    decay=0.98,
    restart_after=60)
# Scenes are rendered once, by the process that trains: a worker beside it would slow two cores down.
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True, seed=0),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CachedDataset',
        datasets=[
            dict(**_base_.clips[task], start=0, length=length)
            for task, length in (('seg', 600), ('pose', 800), ('derain', 500))
        ]))
max_iters = 1000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=100000)
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, betas=(0.9, 0.95), weight_decay=0.),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=max_iters // 10),
    dict(type='CosineAnnealingLR', eta_min=6e-6, by_epoch=False, begin=max_iters // 10, end=max_iters)
]
default_hooks = dict(checkpoint=dict(interval=250, max_keep_ckpts=2))
custom_hooks = [dict(type='SaveTokenizerHook', out_dir=_base_.tokenizer.pretrained)]
