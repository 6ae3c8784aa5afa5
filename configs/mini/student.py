# The student without a teacher, to compare with.
_base_ = 'student_kd.py'
work_dir = _base_.root + '/student'
custom_hooks = [hook for hook in _base_.custom_hooks if hook['type'] != 'DistillationHook']
