# The same beside the fine-tuned model of five layers.
_base_ = 'student_pose.py'
work_dir = _base_.root + '/student_pose_kd'
default_hooks = dict(
    distillation=dict(
        type='DistillationHook',
        teacher=dict(
            cfg='{{ fileDirname }}/finetune_pose.py', checkpoint=f'{_base_.root}/pose/iter_{_base_.max_iters}.pth')))
