# The student beside the teacher, which reads the same batches.
_base_ = 'student.py'
work_dir = _base_.root + '/runs/student_kd'
default_hooks = dict(
    distillation=dict(
        type='DistillationHook',
        teacher=dict(cfg='{{ fileDirname }}/teacher.py', checkpoint=_base_.root + '/teacher/iter_800.pth')))
