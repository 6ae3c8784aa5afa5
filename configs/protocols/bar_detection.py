# Single-object detection of Bar et al., NeurIPS 2022: images of VOC 2012's val with one object, whose box fills less
# than a fifth; the label is the filled box, the answer the box around its largest region, at 111 px. See
# docs/protocols.md. With InMeMo's list of supports:
#     --cfg-options bar_detection_task.dataloader.dataset.pairing=listed
#     bar_detection_task.dataloader.dataset.supports=data/protocols/detection/support_set_for_val.txt
codec = dict(type='SquashedCodec', codec=dict(type='BoxCodec'), size=111, interpolation='bilinear')
bar_detection_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='BoxEpisodes',
            data_root='data/VOCdevkit/VOC2012',
            pairing='class',
            num_pairs=1,
            seed=0,
            interpolation='bilinear',
            codec=codec,
            size=256)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='bar_detection',
        codec=codec,
        metrics=[dict(type='FoldIoUMetric', over='queries')]),
    # Of docs/protocols.md; they stand beside the score.
    published=dict(
        metrics=['IoU'],
        rows={
            'MAE-VQGAN, random pair': [25.45],
            'nearest pair (UnsupPR)': [26.84],
            'learned retrieval (SupPR)': [28.22],
            'prompt-SelF': [29.83],
            'InMeMo': [43.21],
            'LVM, as a summary page gives it': [48.25],
        }))
del codec
