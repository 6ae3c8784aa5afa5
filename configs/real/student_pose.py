# Three layers that begin as the first, the middle and the last of the shipped model, fine-tuned to keypoints of people.
_base_ = 'finetune_pose.py'
work_dir = _base_.root + '/student_pose'
load_from = None
model = dict(
    init_cfg=dict(type='Pretrained', checkpoint='delvm_mm://mini', layers=(0, 2, 4)),
    backbone=dict(arch=dict(num_layers=3)))
