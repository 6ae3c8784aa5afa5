# Few-shot segmentation on FSS-1000: each of the ten images of the 240 test classes as a query with one pair, scored at
# 400 px; mIoU is the mean over classes. See docs/protocols.md.
codec = dict(type='SquashedCodec', codec=dict(type='ForegroundMaskCodec'), size=400, truth='nearest')
few_shot_fss_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='FSSEpisodes',
            data_root='data/FSS-1000',
            list_file='data/protocols/fss/test.txt',
            num_pairs=1,
            seed=0,
            codec=codec,
            size=256)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='few_shot_fss',
        codec=codec,
        metrics=[dict(type='FoldIoUMetric', over='classes')]))
del codec
