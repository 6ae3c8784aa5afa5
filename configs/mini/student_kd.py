# The student, trained on the data and on the teacher's predictions.
_base_ = 'student.py'
work_dir = _base_.root + '/student_kd'
default_hooks = dict(
    distillation=dict(
        type='DistillationHook',
        teacher=dict(
            cfg='{{ fileDirname }}/teacher.py', checkpoint=f'{_base_.root}/teacher/iter_{_base_.max_iters}.pth'),
        loss=dict(type='LogitsKLLoss', temperature=1.0, loss_weight=1.0)))
