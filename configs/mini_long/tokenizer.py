# The mini tokenizer, trained six times as long on more scenes (about 10 minutes on 2 cores).
_base_ = '../mini/tokenizer.py'
root = 'work_dirs/mini_long'
work_dir = root + '/tokenizer'

train_dataloader = dict(
    dataset=dict(datasets=[dict(**clip, start=0, length=4000) for clip in _base_.clips.values()]))
max_iters = 6000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=6e-6, by_epoch=False, begin=100, end=max_iters)
]
default_hooks = dict(checkpoint=dict(interval=1000))
custom_hooks = [dict(type='SaveTokenizerHook', out_dir=root + '/tokenizer/pretrained')]
