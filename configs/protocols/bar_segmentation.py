# Foreground segmentation of Bar et al., NeurIPS 2022: 1000 queries of each of Pascal's four folds, one pair of the
# query's class from the same list, the border of objects is background, scored at 111 px; IoU is the mean over queries,
# then over folds. See docs/protocols.md. Any model is tested with it, at the size of its images:
#     python tools/test.py configs/protocols/bar_segmentation.py delvm_mm://mini
# with other paths as --cfg-options bar_segmentation_task.dataloader.dataset.data_root=... ...lists=...
codec = dict(type='SquashedCodec', codec=dict(type='ForegroundMaskCodec'), size=111)
bar_segmentation_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='PascalEpisodes',
            data_root='data/VOCdevkit/VOC2012',
            lists='data/protocols/pascal/val',
            num_pairs=1,
            seed=0,
            codec=codec,
            size=256)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='bar_segmentation',
        codec=codec,
        metrics=[dict(type='FoldIoUMetric', over='queries')]))
del codec
