# The shipped model fine-tuned to deraining of photographs alone, on augmented copies.
_base_ = 'finetune.py'
work_dir = _base_.root + '/derain'
tasks = dict(_delete_=True, derain=_base_.tasks['derain'])
train_dataloader = dict(
    sampler=dict(scheme='augment'), dataset=dict(stores=[f'{_base_.root}/tokens/train/derain_100_augmented']))
val_dataloader = dict(dataset=dict(stores=[f'{_base_.root}/tokens/val/derain']))
max_iters = 150
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='LinearLR', start_factor=1., end_factor=0.02, by_epoch=False, begin=20, end=max_iters)
]
