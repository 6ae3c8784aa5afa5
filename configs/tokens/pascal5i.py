# Pascal-5i, fold 0: masks of the fifteen classes that training may see, for fine-tuning, and 10 augmented copies.
# The held-out classes are for tools/test.py alone, see configs/_base_/tasks/pascal5i.py.
_base_ = '_base_clips.py'
pascal = dict(
    type='Pascal5iDataset', data_root='data/VOCdevkit/VOC2012', fold=0, split='train', sbd='SegmentationClassAug')
draw = [dict(type='DrawLabel', codec=dict(type='ForegroundMaskCodec')), dict(type='PackClip', factor=16)]
stores = [
    dict(
        out='data/tokens/train/pascal5i_fold0',
        dataset=dict(pascal, pipeline=[*_base_.load, *_base_.plain, *draw])),
    dict(
        out='data/tokens/train/pascal5i_fold0_augmented',
        num_augmented_copies=10,
        dataset=dict(pascal, pipeline=[*_base_.load, *_base_.augmented, *draw])),
]
