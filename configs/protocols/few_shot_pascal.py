# Few-shot segmentation on Pascal-5i: 1000 episodes of each of four folds with one pair, scored at 400 px without the
# border of objects; mIoU is the mean over a fold's classes, then over folds. See docs/protocols.md.
codec = dict(type='SquashedCodec', codec=dict(type='ForegroundMaskCodec'), size=400, truth='nearest')
few_shot_pascal_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='PascalEpisodes',
            data_root='data/VOCdevkit/VOC2012',
            lists='data/protocols/pascal/val',
            border='ignored',
            num_pairs=1,
            seed=0,
            codec=codec,
            size=256)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='few_shot_pascal',
        codec=codec,
        metrics=[dict(type='FoldIoUMetric', over='classes')]))
del codec
