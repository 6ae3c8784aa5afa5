# Foreground segmentation as bar_segmentation.py, each line of the validation lists once, with the nearest pair of the
# training lists instead of a drawn one. By default images are alike by the codes that they are made of, which needs no
# download; published scores are by CLIP's vectors: features=dict(type='BackboneFeatures', ...). Within the class:
#     --cfg-options bar_segmentation_nearest_task.dataloader.dataset.same_class=True
codec = dict(type='SquashedCodec', codec=dict(type='ForegroundMaskCodec'), size=111)
bar_segmentation_nearest_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='NearestPascalEpisodes',
            data_root='data/VOCdevkit/VOC2012',
            lists='data/protocols/pascal/val',
            support_lists='data/protocols/pascal/trn',
            features=dict(type='CodebookHistograms', tokenizer='delvm_mm://zoo_tokenizer'),
            same_class=False,
            num_pairs=1,
            codec=codec,
            size=256)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='bar_segmentation_nearest',
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
