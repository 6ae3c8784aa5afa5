# Token stores made by tools/tokenize_dataset.py; a sentence is 2048 tokens, 8 images of one task.
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    # or scheme='mixture', 'resample'; shuffle=False trains one task after another
    sampler=dict(type='SentenceSampler', seed=0, scheme='augment'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='VisualSentenceDataset',
        stores=['data/tokens/train/seg', 'data/tokens/train/pose', 'data/tokens/train/derain'],
        context=2048,
        assembly='random',
        seed=0))
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='VisualSentenceDataset',
        stores=['data/tokens/val/seg', 'data/tokens/val/pose', 'data/tokens/val/derain'],
        context=2048,
        assembly='fixed',
        seed=0))
val_evaluator = dict(type='TokenMetric')
