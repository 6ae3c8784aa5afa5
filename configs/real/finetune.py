# The shipped model fine-tuned to three tasks on real images together, on augmented copies: about a third of the
# sentences each.
#     python tools/tokenize_dataset.py configs/real/tokens.py
#     python tools/train.py configs/real/finetune.py
#     python tools/test.py configs/real/finetune.py work_dirs/real/finetune/iter_150.pth
_base_ = [
    '_base_tasks.py', '../zoo/_base_model.py', '../_base_/datasets/visual_sentences.py',
    '../_base_/schedules/adamw_40k.py', '../_base_/default_runtime.py'
]
root = 'work_dirs/real'
work_dir = root + '/finetune'
load_from = 'delvm_mm://mini'

train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        stores=[f'{root}/tokens/train/{task}_100_augmented' for task in _base_.codec_of], context=_base_.context))
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(stores=[f'{root}/tokens/val/{task}' for task in _base_.codec_of], context=_base_.context))
max_iters = 150
train_cfg = dict(max_iters=max_iters, val_interval=max_iters, global_batch_tokens=None)
# In bfloat16 where the processor computes in it; elsewhere optim_wrapper.type=OptimWrapper.
optim_wrapper = dict(type='AutocastOptimWrapper', optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='LinearLR', start_factor=1., end_factor=0.02, by_epoch=False, begin=20, end=max_iters)
]
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=50, max_keep_ckpts=1))
