# A small VQGAN trained from nothing on pictures and label pictures of the built-in scenes.
_base_ = '_base_scenes.py'
work_dir = _base_.root + '/tokenizer'

model = dict(
    type='VQGANTrainer',
    vqgan=dict(
        resolution=64, hidden_channels=16, channel_mult=(1, 2, 6, 8), num_res_blocks=1, norm_num_groups=8,
        z_channels=32, num_embeddings=512, quantized_embed_dim=16),
    decay=0.97,
    restart_after=40)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True, seed=0),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ConcatDataset',
        datasets=[dict(type='CachedDataset', dataset=dict(**clip, start=0, length=700)) for clip in _base_.clips.values()]))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=450, val_interval=100000)
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.95), weight_decay=0.),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=45),
    dict(type='CosineAnnealingLR', eta_min=4e-5, by_epoch=False, begin=45, end=450)
]
default_hooks = dict(checkpoint=dict(interval=150, max_keep_ckpts=1))
custom_hooks = [dict(type='SaveTokenizerHook', out_dir=_base_.tokenizer.pretrained)]
