# What all mini configs share: built-in scenes at 40 pixels, a tokenizer of 10 x 10 tokens an image, and three tasks.
# `root` is where `tools/quickstart.py --from-scratch` keeps tokens and checkpoints.
root = 'work_dirs/from_scratch'
size = 40
codecs = dict(
    seg=dict(type='ForegroundMaskCodec'),
    pose=dict(type='SkeletonCodec', radius=1.25, thickness=1.25),
    derain=dict(type='RestorationCodec'))
metrics = dict(
    seg=[dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])],
    pose=[dict(type='mmpose.PCKAccuracy', thr=0.2, norm_item='bbox')],
    derain=[dict(type='RestorationMetric')])
scenes = {
    task: dict(type='ProceduralScenes', task=task, size=size, seed=0, pipeline=[dict(type='DrawLabel', codec=codec)])
    for task, codec in codecs.items()
}
clips = {
    task: dict(type='ProceduralScenes', task=task, size=size, seed=0,
               pipeline=[dict(type='DrawLabel', codec=codec), dict(type='PackClip', factor=4)])
    for task, codec in codecs.items()
}
tokenizer = dict(type='VQGAN', pretrained='delvm_mm://mini_tokenizer')
# Training sees scenes from 0, validation from 1 000 000; prompts are from 2 000 000 and queries from 3 000 000.
tasks = {
    task: dict(
        dataloader=dict(
            batch_size=25,
            num_workers=1,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            dataset=dict(
                type='VisionPromptDataset',
                support=dict(**scenes[task], start=2_000_000, length=64),
                query=dict(**scenes[task], start=3_000_000, length=50),
                num_pairs=3,
                selection='random',
                seed=0)),
        evaluator=dict(type='VisionPromptEvaluator', prefix=task, codec=codecs[task], metrics=metrics[task]))
    for task in codecs
}
