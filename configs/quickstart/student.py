# Three layers that begin as the first, the middle and the last of the shipped model, trained on the data alone.
_base_ = 'teacher.py'
work_dir = _base_.root + '/student'

model = dict(
    init_cfg=dict(type='Pretrained', checkpoint='delvm_mm://mini', layers=(0, 2, 4)),
    backbone=dict(arch=dict(num_layers=3)))
max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
# In bfloat16 where the processor computes in it.
optim_wrapper = dict(type='AutocastOptimWrapper', optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='LinearLR', start_factor=1., end_factor=0.02, by_epoch=False, begin=20, end=max_iters)
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100, max_keep_ckpts=1))
