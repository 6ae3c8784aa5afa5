# The first images that a newcomer sees answered: built-in scenes, and photographs that scikit-image carries and the
# model was not trained on (astronaut and others, which it was trained on, are its prompts).
#     python tools/test.py configs/zoo/first_answers.py delvm_mm://mini --show-dir answers
_base_ = 'mini.py'
photos = (('astronaut.png', 'brick.png', 'grass.png', 'hubble_deep_field.jpg'),
          ('chelsea.png', 'coffee.png', 'rocket.jpg'))
middle = [dict(type='LoadImage'), *_base_.middle]
scenes = {
    task: (codec, [
        dict(
            type='ProceduralScenes',
            task=task,
            size=_base_.size,
            seed=0,
            pipeline=[_base_.draw[codec]],
            start=start,
            length=length) for start, length in ((2_000_000, 64), (3_000_000, 2))
    ])
    for task, codec in _base_.scene_tasks.items()
}
degraded = {
    task: ('image', [
        dict(
            type='SeededDataset',
            seed=seed,
            dataset=dict(
                type='ScikitImageDataset',
                names=names,
                metainfo=dict(task=task),
                pipeline=[*middle, *_base_.degradations[task], _base_.draw['image']]))
        for seed, names in enumerate(photos)
    ])
    for task in ('colorization', 'inpainting', 'denoising', 'deblurring', 'edges')
}
tasks = dict(
    _delete_=True,
    **{
        task: dict(
            dataloader=dict(**_base_.loader, dataset=dict(**_base_.pairs, support=sets[0], query=sets[1])),
            evaluator=dict(
                type='VisionPromptEvaluator',
                prefix=task,
                codec=dict(_base_.codecs[codec], **_base_.details.get(task, {})),
                metrics=_base_.metrics[codec]),
            ensemble=_base_.ensembles.get(task))
        for task, (codec, sets) in (scenes | degraded).items()
    })
del scenes, degraded
