# The zoo's student beside the teacher: the model that is shipped as delvm_mm://mini.
_base_ = 'student.py'
work_dir = _base_.root + '/student_kd'
default_hooks = dict(
    distillation=dict(
        type='DistillationHook',
        teacher=dict(
            cfg='{{ fileDirname }}/teacher.py', checkpoint=f'{_base_.root}/teacher/iter_{_base_.max_iters}.pth')))
