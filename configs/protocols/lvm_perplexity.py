# Perplexity as LVM reports it: how well the tokens of a query's label are foretold behind five pairs, exp(mean negative
# log-likelihood) of each query, then the mean; here of Pascal's foreground masks, with the queries and pairs of
# bar_segmentation.py. No image is generated. It depends on the tokenizer: only models of one tokenizer compare. See
# docs/protocols.md.
lvm_perplexity_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='PascalEpisodes',
            data_root='data/VOCdevkit/VOC2012',
            lists='data/protocols/pascal/val',
            num_pairs=5,
            answered=True,
            seed=0,
            codec=dict(type='ForegroundMaskCodec'),
            size=256)),
    evaluator=dict(type='Evaluator', metrics=[dict(type='LabelPerplexityMetric', prefix='lvm_perplexity')]))
