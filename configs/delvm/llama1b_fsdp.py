# LLaMA-1B with weights, gradients and optimizer state in shards over the GPUs of one machine or several.
_base_ = 'llama1b.py'
model_wrapper_cfg = dict(type='delvm_mm.FullyShardedDeLVM', param_dtype='bfloat16')
# Each process writes its own part of a checkpoint; `sharded=False` gathers one file. No process can draw panels.
default_hooks = dict(
    validation_panels=None, sharded_checkpoint=dict(type='ShardedCheckpointHook', sharded=True))
