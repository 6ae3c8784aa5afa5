# As published: 40 000 steps of 262 144 tokens (128 sentences), warm-up over 0.56 % of them, cosine to a tenth.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(bias_decay_mult=0., custom_keys={'norm': dict(decay_mult=0.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 224, by_epoch=False, begin=0, end=224),
    dict(type='CosineAnnealingLR', eta_min=1.5e-5, by_epoch=False, begin=224, end=40000)
]
# The batches that make up a step follow from the number of devices and the batch size; None takes one.
train_cfg = dict(type='AccumulatingTrainLoop', max_iters=40000, val_interval=2000, global_batch_tokens=262144)
val_cfg = dict(type='ValLoop')
# 128 sentences of 2048 tokens.
auto_scale_lr = dict(base_batch_size=128, enable=False)
