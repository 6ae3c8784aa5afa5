# What classification configs share; unlike those of DeLVM, they are written in mmpretrain's scope.
default_scope = 'mmpretrain'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='delvm_mm.SafeCheckpointHook', interval=1, max_keep_ckpts=2, save_best='auto'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    guard=dict(type='delvm_mm.NonFiniteGuardHook'))
env_cfg = dict(
    cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
visualizer = dict(
    type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend'),
                                              dict(type='TensorboardVisBackend')])
log_processor = dict(type='delvm_mm.LogProcessor')
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)
