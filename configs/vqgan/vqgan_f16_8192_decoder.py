# The published tokenizer's decoder alone, trained on label images: encoder, codebook and so all tokens stay bit for
# bit what they are, and the blur of masks and skeletons goes. A third of the images are clean photographs and
# scenes, lest the decoder forget them. Needs no data set; labels of others are one more entry of `datasets`:
#     dict(type='CocoPoseDataset', ..., pipeline=[..., dict(type='DrawLabel', codec=...), dict(type='PackClip', ...)])
# The schedule is our choice: nobody has published one.
_base_ = '../_base_/runtime.py'
pretrained = 'weights/vqgan-f16-8192-laion'
codecs = dict(
    seg=dict(type='ForegroundMaskCodec'),
    pose=dict(type='SkeletonCodec', radius=4, thickness=2),
    derain=dict(type='RestorationCodec'))
model = dict(type='VQGANTrainer', vqgan=dict(type='VQGAN', pretrained=pretrained), train_part='decoder')
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True, seed=0),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='JoinedDataset',
        datasets=[
            dict(
                type='ProceduralScenes',
                task=task,
                size=256,
                seed=0,
                length=20_000,
                pipeline=[dict(type='DrawLabel', codec=codec),
                          dict(type='PackClip', keys=('label', ), factor=16)])
            for task, codec in codecs.items()
        ]))
max_iters = 20_000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters)
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.95), weight_decay=0.),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=False, begin=500, end=max_iters)
]
default_hooks = dict(
    ema=dict(type='EMAHook', momentum=1e-3),
    reconstruction=dict(type='ReconstructionHook', interval=1000),
    save_tokenizer=dict(type='SaveTokenizerHook', out_dir='work_dirs/vqgan_f16_8192_decoder/pretrained'),
    guard=dict(type='NonFiniteGuardHook'))
