# Pose: the OpenPose skeleton of a person on black. Scored by mmpose's PCK@0.2,
# on built-in scenes that training does not see.
codec = dict(type='SkeletonCodec', radius=4, thickness=2)
scenes = dict(
    type='ProceduralScenes',
    task='pose',
    size=256,
    seed=0,
    pipeline=[dict(type='DrawLabel', codec=codec)])
pose_task = dict(
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
        prefix='pose',
        codec=codec,
        metrics=[dict(type='mmpose.PCKAccuracy', thr=0.2, norm_item='bbox')]))
del codec, scenes
