# The student beside the teacher, which reads the same batches.
_base_ = 'student.py'
work_dir = _base_.root + '/runs/student_kd'
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='DistillationHook',
        teacher=dict(cfg='{{ fileDirname }}/teacher.py', checkpoint=_base_.root + '/teacher/iter_800.pth'))
]
