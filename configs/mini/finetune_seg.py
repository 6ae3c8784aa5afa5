# The quick start's student fine-tuned to segmentation alone: the mini form of llama300m_finetune_pascal5i.py.
_base_ = 'student.py'
work_dir = _base_.root + '/finetune_seg'
load_from = f'{_base_.root}/student_kd/iter_{_base_.max_iters}.pth'
tasks = dict(_delete_=True, seg=_base_.tasks['seg'])
train_dataloader = dict(dataset=dict(stores=[f'{_base_.root}/tokens/train/seg']))
val_dataloader = dict(dataset=dict(stores=[f'{_base_.root}/tokens/val/seg']))
max_iters = 200
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', eta_min=2e-5, by_epoch=False, begin=10, end=max_iters)
]
default_hooks = dict(validation_panels=None)
