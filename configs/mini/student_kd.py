# The student: a smaller LLaMA, trained on the data and on the teacher's predictions.
_base_ = 'teacher.py'
work_dir = _base_.root + '/student_kd'

model = dict(backbone=dict(arch=dict(embed_dims=192, num_layers=3, num_heads=6)))
optim_wrapper = dict(optimizer=dict(lr=4e-3))
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='DistillationHook',
        teacher=dict(
            cfg='{{ fileDirname }}/teacher.py', checkpoint=f'{_base_.root}/teacher/iter_{_base_.max_iters}.pth'),
        loss=dict(type='LogitsKLLoss', temperature=1.0, loss_weight=1.0))
]
