# What all configs in this package's scope share. `custom_hooks` is for hooks of your own.
default_scope = 'delvm_mm'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', by_epoch=False, interval=1000, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'))
custom_hooks = []
env_cfg = dict(
    cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
visualizer = dict(
    type='Visualizer', vis_backends=[dict(type='LocalVisBackend'),
                                     dict(type='TensorboardVisBackend')])
log_processor = dict(type='LogProcessor', by_epoch=False)  # delvm_mm's: validations are not smoothed
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)
