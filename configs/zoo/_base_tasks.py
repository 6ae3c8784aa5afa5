# The zoo's tasks on images that training does not see: scenes from 3 000 000 (prompts from 2 000 000), the pets of
# val.txt (prompts of train.txt), and the photographs of heldout/ (prompts of train/). Whatever is random, crops and
# degradations, is seeded for each image.
_base_ = '_base_data.py'

scene_tasks = dict(seg='mask', pose='skeleton', derain='image')
metrics = dict(
    mask=[dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])],
    skeleton=[dict(type='mmpose.PCKAccuracy', thr=0.2, norm_item='bbox')],
    image=[dict(type='RestorationMetric')])
# Eight answers drawn behind one prompt, and their mean (docs/recipes.md); thin lines have no mean worth looking at.
draws = dict(size=8, vary='draws', combine='mean')
ensembles = {task: draws for task in (*scene_tasks, *_base_.degradations) if task != 'edges'}
# Of the detail that the tokenizer loses, what was best for photographs of the training (docs/recipes.md).
details = dict(
    derain=dict(detail=0.5),
    colorization=dict(detail=1.),
    inpainting=dict(detail=0.75),
    denoising=dict(detail=0.25),
    deblurring=dict(detail=1.))
scenes = {
    task: dict(type='ProceduralScenes', task=task, size=_base_.size, seed=0, pipeline=[_base_.draw[codec]])
    for task, codec in scene_tasks.items()
}
crops = [
    dict(type='LoadImage'),
    dict(type='RandomResizedCrop', size=_base_.size, scale=(0.3, 1.0), ratio=(0.75, 1.33)),
]
photos = {
    task: dict(
        **_base_.photos,
        num_views=1,
        metainfo=dict(task=task),
        pipeline=[*crops, *steps, _base_.draw['image']])
    for task, steps in _base_.degradations.items()
}
pets = dict(**_base_.pets, pipeline=[*_base_.middle, _base_.draw['mask']])
# Task -> its codec, where prompts come from and where queries.
sets = {
    **{
        f'{task}_scenes': (codec, dict(**scenes[task], start=2_000_000,
                                       length=64), dict(**scenes[task], start=3_000_000, length=50))
        for task, codec in scene_tasks.items()
    },
    'seg_pets': ('mask', dict(**pets, ann_file='train.txt'), dict(**pets, ann_file='val.txt')),
    **{
        f'{task}_photos': ('image', *[
            dict(type='SeededDataset', seed=seed, dataset=dict(**clips, data_root=f'{_base_.photos_root}/{folder}'))
            for seed, folder in enumerate(('train', 'heldout'))
        ])
        for task, clips in photos.items()
    },
}
loader = dict(
    batch_size=10,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'))
pairs = dict(type='VisionPromptDataset', num_pairs=3, selection='random', seed=0)
kinds = {task: task.partition('_')[0] for task in sets}
tasks = {
    task: dict(
        dataloader=dict(**loader, dataset=dict(**pairs, support=support, query=query)),
        evaluator=dict(
            type='VisionPromptEvaluator',
            prefix=task,
            codec=dict(_base_.codecs[codec], **details.get(kinds[task], {})),
            metrics=metrics[codec]),
        ensemble=ensembles.get(kinds[task]))
    for task, (codec, support, query) in sets.items()
}
del scenes, crops, photos, pets, sets, kinds
