# The same, distilled from a classifier. Put the weights that mmpretrain publishes for the teacher's config here, or
# name another teacher of the same 1000 classes; None gives it random weights, for a try.
_base_ = 'visionllama80m_300e_in1k.py'
default_hooks = dict(
    distillation=dict(
        type='delvm_mm.ClassifierDistillationHook',
        teacher=dict(
            cfg='mmpretrain::convnext/convnext-base_32xb128_in1k.py', checkpoint='weights/convnext-base_in1k.pth'),
        loss=dict(type='LogitsKLLoss', temperature=1.0, loss_weight=1.0)))
