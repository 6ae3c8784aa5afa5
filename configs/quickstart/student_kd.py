# The same, trained on the data and on what the shipped model has written down of each token.
_base_ = 'student.py'
work_dir = _base_.root + '/student_kd'
default_hooks = dict(
    distillation=dict(
        type='DistillationHook',
        teacher=dict(cache=f'{_base_.root}/teacher/teacher_cache'),
        loss=dict(type='LogitsKLLoss', temperature=1.0, loss_weight=1.0)))
