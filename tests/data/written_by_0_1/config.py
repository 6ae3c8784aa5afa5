default_scope = "delvm_mm"
folder = "written_by_0_1"
model = dict(
    type="DeLVM",
    tokenizer=dict(type="VQGAN", pretrained=f"{folder}/tokenizer"),
    backbone=dict(
        type="LLaMA",
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        max_positions=256,
        init_std=0.1,
    ),
    embedding=dict(type="CodebookEmbedding", init_std=0.5),
    head=dict(type="NextTokenHead", init_std=0.1),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="SentenceSampler", seed=0, scheme="mixture"),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="VisualSentenceDataset", stores=[f"{folder}/tokens"], context=256, assembly="fixed", seed=0),
)
train_cfg = dict(type="AccumulatingTrainLoop", max_iters=4, val_interval=100)
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="GroupedOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(bias_decay_mult=0.0, custom_keys={"norm": dict(decay_mult=0.0)}),
)
param_scheduler = [dict(type="LinearLR", start_factor=0.5, by_epoch=False, begin=0, end=3)]
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="SafeCheckpointHook", by_epoch=False, interval=2, save_last=False),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
custom_hooks = [dict(type="NonFiniteGuardHook")]
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
work_dir = "work"
stores = [
    dict(
        out=f"{folder}/tokens",
        dataset=dict(
            type="ProceduralScenes",
            task="seg",
            size=16,
            length=8,
            pipeline=[dict(type="DrawLabel", codec=dict(type="ForegroundMaskCodec")), dict(type="PackClip", factor=2)],
        ),
    )
]
tokenizer = model["tokenizer"]
tokenization = dict(batch_clips=4, num_workers=0, shard_clips=5)
