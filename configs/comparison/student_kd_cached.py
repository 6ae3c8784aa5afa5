# The student without the teacher, learning from what tools/cache_teacher.py wrote down of it. Sentences are the same in
# every epoch.
_base_ = 'student.py'
work_dir = _base_.root + '/runs/student_kd_cached'
train_dataloader = dict(dataset=dict(assembly='fixed'))
default_hooks = dict(
    distillation=dict(type='DistillationHook', teacher=dict(cache=_base_.root + '/teacher_cache')))
