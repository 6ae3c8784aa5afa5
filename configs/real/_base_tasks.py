# Masks of the pets of val.txt, keypoints of the first 100 of the 200 people of LSP's val part, and Rain100L, each
# behind three pairs of the training images. Whatever is random, prompts and rain, is seeded for each image.
_base_ = '_base_data.py'
metrics = dict(
    seg=[dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])],
    pose=[dict(type='mmpose.PCKAccuracy', thr=0.2, norm_item='bbox')],
    derain=[dict(type='RestorationMetric')])
before = dict(seg=[], pose=_base_.crop_person, derain=_base_.load)
after = dict(seg=[], pose=[], derain=_base_.rain)
draw = {task: _base_.draw[codec] for task, codec in _base_.codec_of.items()}
support = {
    task: dict(
        type='SeededDataset',
        seed=0,
        dataset=dict(**clips, pipeline=[*before[task], *_base_.middle, *after[task], draw[task]]))
    for task, clips in _base_.train_sets.items()
}
query = dict(
    seg=dict(_base_.train_sets['seg'], ann_file='val.txt', pipeline=[*_base_.middle, draw['seg']]),
    pose=dict(
        **_base_.people,
        ann_file='annotations/person_keypoints_val.json',
        indices=100,
        pipeline=[*_base_.crop_person, *_base_.middle, draw['pose']]),
    derain=dict(
        **_base_.rain100l,
        pipeline=[*_base_.load, dict(type='LoadImage', key='gt_img'), *_base_.middle, draw['derain']]))
loader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'))
# Half of the detail that the tokenizer loses, as in the zoo, where it was chosen on neither test set; one answer each,
# the likeliest tokens of restorations, drawn masks and keypoints.
read = dict(_base_.codecs, image=dict(_base_.codecs['image'], detail=0.5))
tasks = {
    task: dict(
        dataloader=dict(
            **loader,
            dataset=dict(
                type='VisionPromptDataset',
                support=support[task],
                query=query[task],
                num_pairs=3,
                selection='random',
                seed=0)),
        evaluator=dict(
            type='VisionPromptEvaluator', prefix=task, codec=read[codec], metrics=metrics[task]),
        sampler=dict(temperature=0.) if task == 'derain' else {})
    for task, codec in _base_.codec_of.items()
}
del before, after, draw, support, query, read
