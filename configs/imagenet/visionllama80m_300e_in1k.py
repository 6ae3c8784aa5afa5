# VisionLLaMA-80M on ImageNet-1k, 224 px, from scratch: the augmentation, loss and schedule with which the literature
# trains transformers of this size. The recipe behind DeLVM's 83.04 % is not published, and this one has not been run.
_base_ = [
    '../_base_/models/visionllama80m.py', 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '../_base_/schedules/adamw_300e.py', '../_base_/classification_runtime.py'
]
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = dict(batch_size=128)
default_hooks = dict(soft_causal=dict(type='delvm_mm.SoftCausalHook', end=25))
