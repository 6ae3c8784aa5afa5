# The same, from the stack of a trained DeLVM (configs/delvm/llama80m.py): causal from the first step, as it was
# trained, with lower learning rates for the layers nearest to the patches.
_base_ = 'visionllama80m_300e_in1k.py'
model = dict(
    backbone=dict(
        attention='causal',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/llama80m/iter_40000.pth', prefix='backbone.')))
optim_wrapper = dict(
    constructor='LearningRateDecayOptimWrapperConstructor', paramwise_cfg=dict(layer_decay_rate=0.75))
max_epochs = 100
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=20, end=max_epochs, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(soft_causal=None)
