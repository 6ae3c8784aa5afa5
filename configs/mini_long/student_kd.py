# The student of the longer schedule (about 20 minutes on 2 cores).
_base_ = 'teacher.py'
work_dir = _base_.root + '/student_kd'

model = dict(backbone=dict(arch=dict(embed_dims=256, num_layers=4, num_heads=8)))
default_hooks = dict(
    distillation=dict(
        type='DistillationHook',
        teacher=dict(
            cfg='{{ fileDirname }}/teacher.py', checkpoint=f'{_base_.root}/teacher/iter_{_base_.max_iters}.pth')))
