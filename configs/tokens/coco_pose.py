# COCO keypoints as OpenPose skeletons: each image as it is, and 10 augmented copies for the scheme 'augment'.
# Discs of radius 4 in images of 256 pixels are the published radius 8 in images of about 500.
_base_ = '_base_clips.py'
coco = dict(type='CocoPoseDataset', data_root='data/coco')
train = dict(ann_file='annotations/person_keypoints_train2017.json', img_dir='train2017')
val = dict(ann_file='annotations/person_keypoints_val2017.json', img_dir='val2017')
codec = dict(type='SkeletonCodec', radius=4, thickness=2)
draw = [dict(type='DrawLabel', codec=codec), dict(type='PackClip', factor=16)]
whole = [*_base_.load, *_base_.plain, *draw]
stores = [
    dict(out='data/tokens/train/pose', dataset=dict(coco, **train, pipeline=whole)),
    dict(
        out='data/tokens/train/pose_augmented',
        num_augmented_copies=10,
        dataset=dict(coco, **train, pipeline=[*_base_.load, *_base_.augmented, *draw])),
    dict(out='data/tokens/val/pose', dataset=dict(coco, **val, pipeline=whole)),
]
