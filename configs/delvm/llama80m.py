# LLaMA-80M on all tasks, without distillation.
_base_ = 'llama300m.py'
model = dict(backbone=dict(arch='80m'))
