# Any folder of images, each a clip of one.
_base_ = '_base_clips.py'
stores = [
    dict(
        out='data/tokens/train/image',
        dataset=dict(
            type='ImageFolderDataset',
            data_root='data/images',
            pipeline=[*_base_.load, *_base_.plain, dict(type='PackClip', keys=('img', ), factor=16)]))
]
