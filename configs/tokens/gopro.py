# GoPro: blurred and sharp frames, and 10 augmented copies for the scheme 'augment'.
_base_ = '_base_clips.py'
gopro = dict(type='GoProDataset', data_root='data/GOPRO_Large')
pack = [dict(type='PackClip', keys=('img', 'gt_img'), factor=16)]
whole = [*_base_.load_pair, *_base_.plain, *pack]
stores = [
    dict(out='data/tokens/train/deblur', dataset=dict(gopro, split='train', pipeline=whole)),
    dict(
        out='data/tokens/train/deblur_augmented',
        num_augmented_copies=10,
        dataset=dict(gopro, split='train', pipeline=[*_base_.load_pair, *_base_.augmented, *pack])),
    dict(out='data/tokens/val/deblur', dataset=dict(gopro, split='test', pipeline=whole)),
]
