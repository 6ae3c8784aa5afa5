# Rain13K: each pair as it is, and 20 augmented copies for the scheme 'augment'; Test100 for validation.
_base_ = '_base_clips.py'
rain = dict(type='RainDataset', data_root='data/rain13k')
pack = [dict(type='PackClip', keys=('img', 'gt_img'), factor=16)]
whole = [*_base_.load_pair, *_base_.plain, *pack]
stores = [
    dict(out='data/tokens/train/derain', dataset=dict(rain, split='train', pipeline=whole)),
    dict(
        out='data/tokens/train/derain_augmented',
        num_augmented_copies=20,
        dataset=dict(rain, split='train', pipeline=[*_base_.load_pair, *_base_.augmented, *pack])),
    dict(out='data/tokens/val/derain', dataset=dict(rain, split='Test100', pipeline=whole)),
]
