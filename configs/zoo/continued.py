# Train on from the shipped weights, as they were themselves the last time: the rate rises in 100 steps and falls from
# there to the end. Steps of four sentences in two processes:
#     tools/dist_train.sh configs/zoo/continued.py 2
_base_ = 'teacher.py'
load_from = 'delvm_mm://mini'
work_dir = _base_.root + '/continued'
max_iters = 4500
train_dataloader = dict(batch_size=2)
train_cfg = dict(max_iters=max_iters)
optim_wrapper = dict(type='AutocastOptimWrapper', optimizer=dict(lr=1.5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='LinearLR', start_factor=1., end_factor=0.01, by_epoch=False, begin=100, end=max_iters)
]
auto_scale_lr = dict(base_batch_size=4)
