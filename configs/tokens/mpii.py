# MPII people as OpenPose skeletons, cut out one by one.
_base_ = '_base_clips.py'
person = [
    *_base_.load,
    dict(type='CropPerson', padding=1.25), *_base_.plain,
    dict(type='DrawLabel', codec=dict(type='SkeletonCodec', radius=4, thickness=2)),
    dict(type='PackClip', factor=16)
]
stores = [
    dict(
        out=f'data/tokens/{split}/pose_mpii',
        dataset=dict(
            type='MpiiDataset',
            data_root='data/mpii',
            ann_file=f'annotations/mpii_{split}.json',
            pipeline=person))
    for split in ('train', 'val')
]
