# Folders of video frames: clips of 8 frames, so that a sentence is one video.
_base_ = '_base_clips.py'
stores = [
    dict(
        out='data/tokens/train/video',
        dataset=dict(
            type='FrameFolderDataset',
            data_root='data/videos',
            clip_length=8,
            stride=4,
            pipeline=[dict(type='LoadFrames'), *_base_.plain,
                      dict(type='PackClip', keys=('frames', ), factor=16)]))
]
tokenization = dict(batch_clips=2)
