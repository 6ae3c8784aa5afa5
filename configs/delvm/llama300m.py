# LLaMA-300M on all tasks, as published, without distillation.
_base_ = [
    '../_base_/models/delvm.py', '../_base_/datasets/visual_sentences.py', '../_base_/tasks/seg.py',
    '../_base_/tasks/pose.py', '../_base_/tasks/derain.py', '../_base_/schedules/adamw_40k.py',
    '../_base_/default_runtime.py'
]
tasks = dict(seg=_base_.seg_task, pose=_base_.pose_task, derain=_base_.derain_task)
default_hooks = dict(
    validation_panels=dict(
        type='ValidationPanelHook', datasets={name: task['dataloader']['dataset'] for name, task in tasks.items()}))
