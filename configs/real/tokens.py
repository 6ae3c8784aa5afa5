# Token stores of real images. Of masks and keypoints there are also stores of every tenth image and of three in ten.
# Each has a store of augmented copies beside it, about equally many for a task whatever the part of its images.
#     python tools/tokenize_dataset.py configs/real/tokens.py
_base_ = ['_base_data.py', '../_base_/runtime.py']
root = 'work_dirs/real'
work_dir = root + '/tokens'
tokenizer = dict(type='VQGAN', pretrained='delvm_mm://zoo_tokenizer')
# Images of the training parts.
num_images = dict(seg=390, pose=1200, derain=300)
# Percent of the training images -> augmented copies of each.
copies = dict(seg={10: 60, 30: 20, 100: 6}, pose={10: 20, 30: 7, 100: 2}, derain={100: 8})

draw = {task: [_base_.draw[codec], _base_.pack] for task, codec in _base_.codec_of.items()}
# People keep half of the square that is cut out around them, at least.
augment = [dict(_base_.augment[0], scale=(0.5, 1.0)), *_base_.augment[1:]]
plain = dict(
    seg=[*_base_.middle, *draw['seg']],
    pose=[*_base_.crop_person, *_base_.middle, *draw['pose']],
    derain=[*_base_.load, *_base_.middle, *_base_.rain, *draw['derain']])
augmented = dict(
    seg=[*_base_.augment, *draw['seg']],
    pose=[*_base_.crop_person, *augment, *draw['pose']],
    derain=[*_base_.load, *_base_.augment, *_base_.rain, *draw['derain']])
stores = []
for task, clips in _base_.train_sets.items():
    for percent, number in copies[task].items():
        chosen = [index for index in range(num_images[task]) if index % 10 < percent // 10]
        part = dict(clips, indices=None if percent == 100 else chosen)
        out = f'{root}/tokens/train/{task}_{percent}'
        stores += [
            dict(out=out, dataset=dict(**part, pipeline=plain[task])),
            dict(out=out + '_augmented', dataset=dict(**part, pipeline=augmented[task]), num_augmented_copies=number),
        ]
# For the loss of the label tokens (loss.py), also of scenes: what is forgotten.
stores += [
    dict(
        out=f'{root}/tokens/val/seg',
        dataset=dict(_base_.train_sets['seg'], ann_file='val.txt', pipeline=plain['seg'])),
    dict(
        out=f'{root}/tokens/val/pose',
        dataset=dict(**_base_.people, ann_file='annotations/person_keypoints_val.json', pipeline=plain['pose'])),
    dict(
        out=f'{root}/tokens/val/derain',
        dataset=dict(
            **_base_.rain100l,
            pipeline=[*_base_.load, dict(type='LoadImage', key='gt_img'), *_base_.middle, *draw['derain']])),
    *[
        dict(
            out=f'{root}/tokens/val/{task}_scenes',
            dataset=dict(
                type='ProceduralScenes',
                task=task,
                size=_base_.size,
                seed=0,
                start=1_000_000,
                length=32,
                pipeline=[dict(type='SetTask', task=f'{task}_scenes'), *draw[task]])) for task in draw
    ],
]
tokenization = dict(batch_clips=16, num_workers=0, shard_clips=500)
del draw, augment, plain, augmented, task, clips, percent, number, chosen, part, out
