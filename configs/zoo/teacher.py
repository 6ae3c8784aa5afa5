# The zoo's teacher: one model for segmentation, pose, deraining, colorization, inpainting, edges, denoising and
# deblurring. Sentences are 8 images of 144 tokens: three pairs, a query and its answer.
#
# In float32: bfloat16 (optim_wrapper.type='AutocastOptimWrapper') pays where the processor computes in it, which those
# with AVX-512 BF16 or AMX do; elsewhere it is several times slower.
_base_ = [
    '_base_tasks.py', '_base_model.py', '../_base_/datasets/visual_sentences.py',
    '../_base_/schedules/adamw_40k.py', '../_base_/default_runtime.py'
]
root = 'work_dirs/zoo'
work_dir = root + '/teacher'
context = _base_.context

train_stores = [
    'seg_scenes', 'pose_scenes', 'derain_scenes', 'seg_pets',
    *[f'{task}_{where}' for task in _base_.degradations for where in ('pets', 'photos')]
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(scheme='augment'),
    dataset=dict(stores=[f'{root}/tokens/train/{store}' for store in train_stores], context=context))
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(stores=[f'{root}/tokens/val/{task}_scenes' for task in _base_.scene_tasks], context=context))
max_iters = 20000
train_cfg = dict(max_iters=max_iters, val_interval=500, global_batch_tokens=None)
# weight decay as published
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=2e-3))
# Constant, then down over the second half, where most is learned (docs/recipes.md); a run may be made longer while the
# rate is constant.
cooldown = max_iters // 2
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='LinearLR', start_factor=1., end_factor=0.02, by_epoch=False, begin=max_iters - cooldown, end=max_iters)
]
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=200, max_keep_ckpts=3))
