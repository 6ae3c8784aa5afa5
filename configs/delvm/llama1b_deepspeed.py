# LLaMA-1B with DeepSpeed's ZeRO-3 through MMEngine's strategy; needs `pip install deepspeed`. It has never been run.
_base_ = 'llama1b.py'
runner_type = 'FlexibleRunner'
strategy = dict(
    type='DeepSpeedStrategy',
    bf16=dict(enabled=True),
    gradient_clipping=1.0,
    zero_optimization=dict(stage=3, overlap_comm=True, contiguous_gradients=True))
optim_wrapper = dict(
    _delete_=True,
    type='DeepSpeedOptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
    paramwise_cfg=dict(bias_decay_mult=0., custom_keys={'norm': dict(decay_mult=0.)}))
# 8 GPUs x 16 sentences. With gradient_accumulation_steps in `strategy`, iterations count batches, not steps.
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=40000, val_interval=2000)
default_hooks = dict(validation_panels=None)
