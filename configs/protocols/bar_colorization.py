# Colorization of Bar et al., NeurIPS 2022: the middle 111 x 111 pixels of 1000 images of ImageNet's validation set,
# mean squared error in normalized colors. See docs/protocols.md. The folder holds one folder for each class.
codec = dict(type='SquashedCodec', codec=dict(type='RestorationCodec'), size=111)
bar_colorization_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='ColorizationEpisodes',
            data_root='data/imagenet/val',
            num_pairs=1,
            seed=5,
            codec=codec,
            size=256)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='bar_colorization',
        codec=codec,
        metrics=[dict(type='NormalizedMSEMetric')]),
    # Of docs/protocols.md; they stand beside the score.
    published=dict(
        metrics=['MSE'],
        rows={
            'MAE-VQGAN, random pair': [0.67],
            'nearest pair (UnsupPR)': [0.63],
            'learned retrieval (SupPR)': [0.63],
            'LVM, as a summary page gives it': [0.51],
        }))
del codec
