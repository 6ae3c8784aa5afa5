# A larger teacher, trained six times as long (about 20 minutes on 2 cores).
_base_ = '../mini/teacher.py'
root = 'work_dirs/mini_long'
work_dir = root + '/teacher'

model = dict(backbone=dict(arch=dict(embed_dims=320, num_layers=5, num_heads=10)))
train_dataloader = dict(dataset=dict(stores=[f'{root}/tokens/train/{task}' for task in _base_.codecs]))
val_dataloader = dict(dataset=dict(stores=[f'{root}/tokens/val/{task}' for task in _base_.codecs]))
max_iters = 4000
train_cfg = dict(max_iters=max_iters, val_interval=1000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=False, begin=60, end=max_iters)
]
default_hooks = dict(checkpoint=dict(interval=500))
