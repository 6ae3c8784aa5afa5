# The mini tokenizer's decoder alone, trained on label images: tokens stay, bit for bit, and the ceilings rise.
_base_ = ['_base_scenes.py', '../_base_/runtime.py']
pretrained = _base_.tokenizer.pretrained
work_dir = _base_.root + '/decoder'

model = dict(
    type='VQGANTrainer',
    vqgan=dict(type='VQGAN', pretrained=pretrained),
    train_part='decoder',
    l1_weight=0.2,
    l2_weight=0.,
    log_weight=0.1,
    color_weight=5.)
# Masks, skeletons, and clean scenes lest the decoder forget them.
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True, seed=0),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CachedDataset',
        datasets=[
            dict(
                type='ProceduralScenes',
                task=task,
                size=_base_.size,
                seed=0,
                start=100_000,
                length=length,
                pipeline=[dict(type='DrawLabel', codec=_base_.codecs[task]),
                          dict(type='PackClip', keys=('label', ), factor=8)])
            for task, length in (('seg', 1500), ('pose', 3000), ('derain', 1500))
        ]))
max_iters = 1200
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=100000)
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=max_iters // 10),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=max_iters // 10, end=max_iters)
]
default_hooks = dict(
    checkpoint=dict(interval=250, max_keep_ckpts=2),
    ema=dict(type='EMAHook', momentum=0.01),
    reconstruction=dict(type='ReconstructionHook', interval=250),
    save_tokenizer=dict(type='SaveTokenizerHook', out_dir=work_dir + '/pretrained'),
    guard=dict(type='NonFiniteGuardHook'))
