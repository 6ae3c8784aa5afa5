# The published tokenizer's shape (openMUSE's vqgan-f16-8192-laion: 256 px to 16 x 16 tokens of 8192 codes), trained
# from nothing on a folder of images. From openMUSE's one published recipe, which refines a trained model
# (configs/config_finetune_vqgan.yaml): AdamW and its settings, warm-up, batches of 128, 600 000 steps, disc_start and
# disc_weight. From taming-transformers: L1 and LPIPS, PatchGAN, hinge loss, adaptive weight, one learning rate for
# both. Our choice: codes as moving averages with restarts (both have codebook='gradient'), and averaged weights.
_base_ = '../_base_/runtime.py'
data_root = 'data/images'

model = dict(
    type='VQGANAdversarialTrainer',
    vqgan=dict(
        resolution=256,
        hidden_channels=128,
        channel_mult=(1, 2, 2, 4, 6),
        num_res_blocks=2,
        z_channels=64,
        num_embeddings=8192,
        quantized_embed_dim=64),
    l2_weight=0.,
    # torchvision's VGG16 weights; None trains without a perceptual loss, and the log says so.
    perceptual=dict(vgg='weights/vgg16-397923af.pth'),
    disc_weight=0.8,
    disc_start=50_000)
model_wrapper_cfg = dict(type='delvm_mm.SelfAveragingModel')
sync_bn = 'torch'

train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True, seed=0),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolderDataset',
        data_root=data_root + '/train',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeShortSide', size=256),
            dict(type='RandomCrop', size=256),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackClip', keys=('img', ), factor=16)
        ]))
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ImageFolderDataset',
        data_root=data_root + '/val',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeShortSide', size=256),
            dict(type='CenterCrop', size=256),
            dict(type='PackClip', keys=('img', ), factor=16)
        ]))
val_evaluator = dict(type='ReconstructionMetric', channels=('rgb', ))
val_cfg = dict(type='ValLoop')
train_cfg = dict(type='IterBasedTrainLoop', max_iters=600_000, val_interval=10_000)

adam = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, betas=(0.5, 0.9), weight_decay=0.01))
optim_wrapper = dict(constructor='MultiOptimWrapperConstructor', vqgan=adam, discriminator=adam)
auto_scale_lr = dict(base_batch_size=128)
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=2000)]
default_hooks = dict(
    checkpoint=dict(interval=10_000),
    ema=dict(type='EMAHook', momentum=1e-4),
    reconstruction=dict(type='ReconstructionHook', interval=1000),
    save_tokenizer=dict(type='SaveTokenizerHook', out_dir='work_dirs/vqgan_f16_8192/pretrained'))
