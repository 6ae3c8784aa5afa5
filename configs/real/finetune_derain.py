# The shipped model fine-tuned to deraining of photographs alone.
_base_ = 'finetune.py'
work_dir = _base_.root + '/derain'
tasks = dict(_delete_=True, derain=_base_.tasks['derain'])
train_dataloader = dict(dataset=dict(stores=[f'{_base_.root}/tokens/train/derain_100_augmented']))
val_dataloader = dict(dataset=dict(stores=[f'{_base_.root}/tokens/val/derain']))
