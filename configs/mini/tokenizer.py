# The mini tokenizer that the package carries (delvm_mm/pretrained/mini_tokenizer), trained from nothing on images and
# label images of the built-in scenes. Its score: tools/test.py's column "ceiling".
_base_ = ['_base_scenes.py', '../_base_/runtime.py']
work_dir = 'work_dirs/mini_tokenizer'

model = dict(
    type='VQGANTrainer',
    vqgan=dict(
        resolution=40,
        hidden_channels=24,
        channel_mult=(1, 2, 4),
        num_res_blocks=1,
        resample_with_conv=False,
        norm_num_groups=8,
        z_channels=32,
        num_embeddings=512,
        quantized_embed_dim=16),
    l1_weight=0.2,
    l2_weight=0.,
    log_weight=0.1,
    color_weight=5.,
    restart_after=60,
    share_flat_codes=True)
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
            for task, length in (('seg', 1000), ('pose', 3000), ('derain', 3000))
        ]))
max_iters = 5000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=100000)
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    optimizer=dict(type='AdamW', lr=2.5e-3, betas=(0.9, 0.95), weight_decay=0.),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=200, end=max_iters)
]
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=500, max_keep_ckpts=2),
    save_tokenizer=dict(type='SaveTokenizerHook', out_dir=work_dir + '/pretrained'))
