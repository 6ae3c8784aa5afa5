# The teacher of all distilled students: wider, deeper, and trained longer on the same clips.
_base_ = 'student.py'
work_dir = _base_.root + '/teacher'

model = dict(backbone=dict(arch=dict(embed_dims=256, num_layers=4, num_heads=8)))
max_iters = 800
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=False, begin=30, end=max_iters)
]
