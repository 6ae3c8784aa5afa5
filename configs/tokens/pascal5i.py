# Pascal-5i: masks of the fifteen classes that training may see, for fine-tuning, and 10 augmented copies. PASCAL_FOLD=1
# in the environment chooses another fold than 0; the held-out classes are for tools/test.py alone.
_base_ = '_base_clips.py'
fold = {{'$PASCAL_FOLD:0'}}
pascal = dict(
    type='Pascal5iDataset', data_root='data/VOCdevkit/VOC2012', fold=fold, split='train', sbd='SegmentationClassAug')
draw = [dict(type='DrawLabel', codec=dict(type='ForegroundMaskCodec')), dict(type='PackClip', factor=16)]
stores = [
    dict(
        out=f'data/tokens/train/pascal5i_fold{fold}',
        dataset=dict(pascal, pipeline=[*_base_.load, *_base_.plain, *draw])),
    dict(
        out=f'data/tokens/train/pascal5i_fold{fold}_augmented',
        num_augmented_copies=10,
        dataset=dict(pascal, pipeline=[*_base_.load, *_base_.augmented, *draw])),
]
