# The student: a smaller LLaMA, here without a teacher, to compare with.
_base_ = 'teacher.py'
work_dir = _base_.root + '/student'

model = dict(backbone=dict(arch=dict(embed_dims=192, num_layers=3, num_heads=6)))
optim_wrapper = dict(optimizer=dict(lr=4e-3))
