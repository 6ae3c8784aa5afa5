# The teacher: LLaMA on visual sentences of 800 tokens, 8 images of 100.
_base_ = [
    '_base_scenes.py', '../_base_/models/delvm.py', '../_base_/datasets/visual_sentences.py',
    '../_base_/schedules/adamw_40k.py', '../_base_/default_runtime.py'
]
work_dir = _base_.root + '/teacher'
context = 800

model = dict(
    tokenizer=dict(_delete_=True, **_base_.tokenizer),
    # The published deviations are for a width of 1024 and 40 000 steps; a few hundred steps want a livelier start.
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=256, num_layers=4, num_heads=8), max_positions=context, init_std=0.03),
    embedding=dict(init_std=0.5),
    head=dict(init_std=0.02),
    # So short a training knows where labels are likely, not where they must be: greedy answers are mostly background.
    sampler=dict(temperature=1.0, top_p=0.9, seed=0))
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(stores=[f'{_base_.root}/tokens/train/{task}' for task in _base_.codecs], context=context))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(stores=[f'{_base_.root}/tokens/val/{task}' for task in _base_.codecs], context=context))
max_iters = 650
train_cfg = dict(max_iters=max_iters, val_interval=max_iters, global_batch_tokens=None)
optim_wrapper = dict(type='AutocastOptimWrapper', optimizer=dict(lr=3e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=False, begin=60, end=max_iters)
]
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(
    checkpoint=dict(interval=250, max_keep_ckpts=2),
    validation_panels=dict(
        type='ValidationPanelHook',
        datasets={name: task['dataloader']['dataset']
                  for name, task in _base_.tasks.items()}))
