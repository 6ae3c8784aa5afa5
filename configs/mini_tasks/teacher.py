# One model for eight tasks on built-in scenes, by the recipe of configs/mini: sentences of 512 tokens, 8 images of 64.
#     python tools/tokenize_dataset.py configs/mini_tasks/tokens.py
#     python tools/train.py configs/mini_tasks/teacher.py
#     python tools/test.py configs/mini_tasks/teacher.py work_dirs/mini_tasks/teacher/iter_1500.pth
_base_ = [
    '_base_scenes.py', '../_base_/models/delvm.py', '../_base_/datasets/visual_sentences.py',
    '../_base_/schedules/adamw_40k.py', '../_base_/default_runtime.py'
]
work_dir = _base_.root + '/teacher'
context = 512

model = dict(
    tokenizer=dict(_delete_=True, **_base_.tokenizer),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=256, num_layers=4, num_heads=8), max_positions=context, init_std=0.03),
    embedding=dict(init_std=0.5),
    head=dict(init_std=0.02),
    sampler=dict(temperature=1.0, top_p=0.9, seed=0),
    label_weight=4.)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(stores=[f'{_base_.root}/tokens/train/{task}' for task in _base_.kinds], context=context))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(stores=[f'{_base_.root}/tokens/val/{task}' for task in _base_.kinds], context=context))
max_iters = 1500
train_cfg = dict(max_iters=max_iters, val_interval=max_iters, global_batch_tokens=None)
optim_wrapper = dict(type='AutocastOptimWrapper', optimizer=dict(lr=3e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=False, begin=60, end=max_iters)
]
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=250, max_keep_ckpts=2))
