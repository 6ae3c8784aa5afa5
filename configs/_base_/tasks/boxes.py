# Boxes: the box around one object, filled in white on black. Scored by the IoU of the box around the answer's largest
# region, on built-in scenes that training does not see.
codec = dict(type='BoxCodec')
scenes = dict(
    type='ProceduralScenes',
    task='boxes',
    size=256,
    seed=0,
    pipeline=[dict(type='DrawLabel', codec=codec)])
boxes_task = dict(
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
        prefix='boxes',
        codec=codec,
        metrics=[dict(type='FoldIoUMetric')]))
del codec, scenes
