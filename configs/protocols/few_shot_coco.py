# Few-shot segmentation on COCO-20i: 1000 episodes of each of four folds with one pair, drawn from COCO's own
# annotations of val2014, scored at 400 px without crowds; mIoU is the mean over a fold's classes, then over folds. See
# docs/protocols.md.
codec = dict(type='SquashedCodec', codec=dict(type='ForegroundMaskCodec'), size=400, truth='nearest')
few_shot_coco_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='CocoEpisodes',
            data_root='data/coco',
            ann_file='annotations/instances_val2014.json',
            img_dir='val2014',
            num_pairs=1,
            seed=0,
            codec=codec,
            size=256)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='few_shot_coco',
        codec=codec,
        metrics=[dict(type='FoldIoUMetric', over='classes')]))
del codec
