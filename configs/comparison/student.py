# What all runs of the comparison share; tools/analysis/compare_recipes.py sets the scheme and the seeds.
_base_ = '../mini/teacher.py'
root = 'work_dirs/comparison'
work_dir = root + '/runs/student'

model = dict(backbone=dict(arch=dict(embed_dims=128, num_layers=3, num_heads=4)))
train_dataloader = dict(
    sampler=dict(scheme='augment'),
    dataset=dict(stores=[
        f'{root}/tokens/train/{name}' for name in ('seg', 'pose', 'pose_augmented', 'derain', 'derain_augmented')
    ]))
val_dataloader = dict(dataset=dict(stores=[f'{root}/tokens/val/{task}' for task in _base_.codecs]))
optim_wrapper = dict(optimizer=dict(lr=3e-3))
max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=False, begin=30, end=max_iters)
]
default_hooks = dict(checkpoint=dict(interval=100, max_keep_ckpts=1), validation_panels=None)
