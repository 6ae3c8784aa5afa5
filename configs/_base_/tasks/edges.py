# Edges: Canny's, white on black. Scored by the F-measure with a tolerance of 0.0075 of the diagonal, on built-in
# scenes that training does not see.
codec = dict(type='RestorationCodec')
scenes = dict(
    type='ProceduralScenes',
    task='image',
    size=256,
    seed=0,
    pipeline=[
        dict(type='SetTask', task='edges'),
        dict(type='CannyEdges'),
        dict(type='DrawLabel', codec=codec)
    ])
sets = [
    dict(type='SeededDataset', seed=seed, dataset=dict(**scenes, start=start, length=length))
    for seed, start, length in ((1, 2_000_000, 64), (2, 3_000_000, 100))
]
edges_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='VisionPromptDataset',
            support=sets[0],
            query=sets[1],
            num_pairs=3,
            selection='random',
            seed=0)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='edges',
        codec=codec,
        metrics=[dict(type='EdgeMetric')]))
del codec, scenes, sets
