# Depth: near bright, far dark, on a logarithmic scale. Scored by mmseg's depth metrics (abs_rel, rmse in meters, d1 and
# others), on built-in rooms that training does not see.
codec = dict(type='DepthCodec', min_depth=2.0, max_depth=10.0)
scenes = dict(
    type='ProceduralScenes',
    task='depth',
    size=256,
    seed=0,
    pipeline=[dict(type='DrawLabel', codec=codec)])
depth_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='VisionPromptDataset',
            support=dict(**scenes, start=2_000_000, length=64),
            query=dict(**scenes, start=3_000_000, length=100),
            num_pairs=3,
            selection='random',
            seed=0)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='depth',
        codec=codec,
        metrics=[dict(type='mmseg.DepthMetric')]))
del codec, scenes
