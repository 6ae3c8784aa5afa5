# Eight tasks on built-in scenes at 64 pixels, 8 x 8 tokens an image: boxes, depth, edges, and what an image loses and
# is to get back. Nothing is downloaded. Strengths of the degradations are for images of this size.
root = 'work_dirs/mini_tasks'
size = 64
tokenizer = dict(type='VQGAN', pretrained='delvm_mm://zoo_tokenizer')
codecs = dict(
    boxes=dict(type='BoxCodec'),
    depth=dict(type='DepthCodec', min_depth=2.0, max_depth=10.0),
    image=dict(type='RestorationCodec'))
# Task -> its scenes, its codec, its metrics, and what is done to the image.
kinds = dict(
    boxes=('boxes', 'boxes', [dict(type='FoldIoUMetric')], []),
    depth=('depth', 'depth', [dict(type='mmseg.DepthMetric')], []),
    edges=('image', 'image', [dict(type='EdgeMetric')], [dict(type='CannyEdges')]),
    denoising=('image', 'image', [dict(type='RestorationMetric', channels='rgb')],
               [dict(type='AddNoise', std=(10, 50))]),
    deblurring=('image', 'image', [dict(type='RestorationMetric', channels='rgb')],
                [dict(type='AddBlur', sigma=(0.8, 1.6), length=(3, 7))]),
    low_light=('image', 'image', [dict(type='RestorationMetric', channels='rgb')], [dict(type='AddDarkness')]),
    inpainting=('image', 'image', [dict(type='RestorationMetric', channels='rgb')], [dict(type='MaskOut')]),
    colorization=('image', 'image',
                  [dict(type='RestorationMetric', channels='rgb'),
                   dict(type='NormalizedMSEMetric')], [dict(type='ToGray')]))
scenes = {
    name: dict(
        type='ProceduralScenes',
        task=source,
        size=size,
        seed=0,
        pipeline=[dict(type='SetTask', task=name), *steps,
                  dict(type='DrawLabel', codec=codecs[codec])])
    for name, (source, codec, _, steps) in kinds.items()
}
clips = {
    name: dict(
        type='ProceduralScenes',
        task=source,
        size=size,
        seed=0,
        pipeline=[
            dict(type='SetTask', task=name), *steps,
            dict(type='DrawLabel', codec=codecs[codec]),
            dict(type='PackClip', factor=8)
        ])
    for name, (source, codec, _, steps) in kinds.items()
}
# Training sees scenes from 0, validation from 1 000 000; prompts are from 2 000 000 and queries from 3 000 000. What is
# drawn upon these depends on their number alone.
tasks = {
    name: dict(
        dataloader=dict(
            batch_size=25,
            num_workers=1,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            dataset=dict(
                type='VisionPromptDataset',
                support=dict(type='SeededDataset', seed=1, dataset=dict(**scenes[name], start=2_000_000, length=64)),
                query=dict(type='SeededDataset', seed=2, dataset=dict(**scenes[name], start=3_000_000, length=50)),
                num_pairs=3,
                selection='random',
                seed=0)),
        evaluator=dict(type='VisionPromptEvaluator', prefix=name, codec=codecs[codec], metrics=metrics))
    for name, (_, codec, metrics, _) in kinds.items()
}
