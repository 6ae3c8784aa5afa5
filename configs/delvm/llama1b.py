# LLaMA-1B on all tasks: the teacher.
_base_ = 'llama300m.py'
model = dict(backbone=dict(arch='1b', with_cp=True))
