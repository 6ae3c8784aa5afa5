# The distilled LLaMA-300M fine-tuned to Pascal-5i: on the fifteen classes of a fold that training may see, scored on
# the five others. PASCAL_FOLD=1 in the environment takes another fold than 0, here and for configs/tokens/pascal5i.py.
# That the published model was fine-tuned is known, its schedule is not. This one is ours: it begins with the learning
# rate at which the published pretraining ends, and sees about 2 epochs of clips and copies.
_base_ = [
    '../_base_/models/delvm.py', '../_base_/datasets/visual_sentences.py', '../_base_/tasks/pascal5i.py',
    '../_base_/schedules/adamw_40k.py', '../_base_/default_runtime.py'
]
fold = {{'$PASCAL_FOLD:0'}}
work_dir = f'work_dirs/llama300m_finetune_pascal5i_fold{fold}'
load_from = 'work_dirs/llama300m_kd/iter_40000.pth'
tasks = dict(pascal5i=_base_.pascal5i_task)
for role in ('support', 'query'):
    tasks['pascal5i']['dataloader']['dataset'][role]['fold'] = fold
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        stores=[f'data/tokens/train/pascal5i_fold{fold}', f'data/tokens/train/pascal5i_fold{fold}_augmented']))
# Validation is the test, on classes that training does not see: choose no checkpoint by it.
val_dataloader = dict(_delete_=True, **tasks['pascal5i']['dataloader'])
val_evaluator = dict(_delete_=True, **tasks['pascal5i']['evaluator'])
max_iters = 2000
train_cfg = dict(max_iters=max_iters, val_interval=1000, global_batch_tokens=65536)
optim_wrapper = dict(optimizer=dict(lr=1.5e-5))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=1.5e-6, by_epoch=False, begin=100, end=max_iters)
]
default_hooks = dict(checkpoint=dict(interval=500))
# 32 sentences of 2048 tokens.
auto_scale_lr = dict(base_batch_size=32)
del role
