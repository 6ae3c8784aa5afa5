# LLaMA-80M distilled from LLaMA-1B, as published: cross-entropy + KL, both of weight 1, temperature 1.
_base_ = 'llama80m.py'
default_hooks = dict(
    distillation=dict(
        type='DistillationHook',
        teacher=dict(cfg='{{ fileDirname }}/llama1b.py', checkpoint='work_dirs/llama1b/iter_40000.pth'),
        loss=dict(type='LogitsKLLoss', temperature=1.0, loss_weight=1.0)))
