# A long-tailed mixture of built-in scenes: much segmentation, one fiftieth of it for pose and for deraining, and fifty
# augmented copies of these two. Copies are cut out of images of twice the side, as photographs are larger than 256.
_base_ = '../mini/tokens.py'
root = 'work_dirs/comparison'
work_dir = root + '/tokens'
counts = dict(seg=1400, pose=28, derain=28)
augment = [
    dict(type='RandomResizedCrop', size=_base_.size, scale=(0.3, 1.0)),
    dict(type='RandomFlip', prob=0.5),
]
stores = [
    *[
        dict(out=f'{root}/tokens/train/{task}', dataset=dict(clip, start=0, length=counts[task]))
        for task, clip in _base_.clips.items()
    ],
    *[
        dict(
            out=f'{root}/tokens/train/{task}_augmented',
            num_augmented_copies=50,
            dataset=dict(
                _base_.clips[task],
                size=2 * _base_.size,
                start=0,
                length=counts[task],
                pipeline=[*augment, *_base_.clips[task]['pipeline']])) for task in ('pose', 'derain')
    ],
    *[
        dict(out=f'{root}/tokens/val/{task}', dataset=dict(clip, start=1_000_000, length=128))
        for task, clip in _base_.clips.items()
    ],
]
