# Deraining: the image without rain. Scored by PSNR and SSIM, on RGB and on the Y channel,
# on built-in scenes that training does not see.
codec = dict(type='RestorationCodec')
scenes = dict(
    type='ProceduralScenes',
    task='derain',
    size=256,
    seed=0,
    pipeline=[dict(type='DrawLabel', codec=codec)])
derain_task = dict(
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
        prefix='derain',
        codec=codec,
        metrics=[dict(type='RestorationMetric')]))
del codec, scenes
