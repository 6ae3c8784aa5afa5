# The shipped model fine-tuned to masks of pets alone.
_base_ = 'finetune.py'
work_dir = _base_.root + '/seg'
tasks = dict(_delete_=True, seg=_base_.tasks['seg'])
train_dataloader = dict(dataset=dict(stores=[f'{_base_.root}/tokens/train/seg_100_augmented']))
val_dataloader = dict(dataset=dict(stores=[f'{_base_.root}/tokens/val/seg']))
