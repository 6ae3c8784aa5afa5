# ImageNet-1k images, each a clip of one.
_base_ = '_base_clips.py'
stores = [
    dict(
        out=f'data/tokens/{split}/imagenet',
        dataset=dict(
            type='ImageNetDataset',
            data_root='data/imagenet',
            split=split,
            pipeline=[*_base_.load, *_base_.plain, dict(type='PackClip', keys=('img', ), factor=16)]))
    for split in ('train', 'val')
]
