# The zoo's student, without a teacher, to compare with.
_base_ = 'teacher.py'
work_dir = _base_.root + '/student'

model = dict(backbone=dict(arch=dict(embed_dims=256, num_layers=4, num_heads=8)))
optim_wrapper = dict(optimizer=dict(lr=3e-3))
