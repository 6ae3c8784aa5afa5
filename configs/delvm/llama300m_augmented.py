# LLaMA-300M on the published mixture, its small tasks augmented; train_dataloader.sampler.scheme compares the schemes.
_base_ = [
    '../_base_/models/delvm.py', '../_base_/datasets/multi_task_augmented.py', '../_base_/tasks/seg.py',
    '../_base_/tasks/pose.py', '../_base_/tasks/derain.py', '../_base_/schedules/adamw_40k.py',
    '../_base_/default_runtime.py'
]
tasks = dict(seg=_base_.seg_task, pose=_base_.pose_task, derain=_base_.derain_task)
