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
        metrics=[dict(type='FoldIoUMetric', over='queries')]),
    # Of docs/protocols.md; they stand beside the score.
    published=dict(
        metrics=['IoU_fold0', 'IoU_fold1', 'IoU_fold2', 'IoU_fold3', 'IoU'],
        rows={
            'MAE-VQGAN, random pair': [28.66, 30.21, 27.81, 23.55, 27.56],
            'MAE-VQGAN, nearest pair (UnsupPR)': [34.75, 35.92, 32.41, 31.16, 33.56],
            'MAE-VQGAN, learned retrieval (SupPR)': [37.08, 38.43, 34.4, 32.32, 35.56],
            'MAE-VQGAN, nearest pair, eight arrangements (prompt-SelF)': [42.48, 43.34, 39.76, 38.5, 41.02],
            'MAE-VQGAN, learned border (InMeMo)': [41.65, 47.68, 42.43, 40.8, 43.14],
            'LVM, as a summary page gives it': [48.94, 51.29, 47.66, 50.82, 49.68],
        }))
del codec
