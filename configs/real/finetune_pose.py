# The shipped model fine-tuned to keypoints of people alone.
_base_ = 'finetune.py'
work_dir = _base_.root + '/pose'
tasks = dict(_delete_=True, pose=_base_.tasks['pose'])
train_dataloader = dict(dataset=dict(stores=[f'{_base_.root}/tokens/train/pose_100_augmented']))
val_dataloader = dict(dataset=dict(stores=[f'{_base_.root}/tokens/val/pose']))
