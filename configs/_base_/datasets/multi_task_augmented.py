# The published mixture with augmented copies of the small tasks: the stores that sa1b.py, coco_pose.py and rain13k.py
# of configs/tokens make. `scheme` compares the three ways of balancing; the first two use the originals alone.
_base_ = 'visual_sentences.py'
train_dataloader = dict(
    sampler=dict(scheme='augment'),  # or 'mixture', 'resample'
    dataset=dict(stores=[
        'data/tokens/train/seg', 'data/tokens/train/pose', 'data/tokens/train/pose_augmented',
        'data/tokens/train/derain', 'data/tokens/train/derain_augmented'
    ]))
