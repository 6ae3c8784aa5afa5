# SA-1B: every mask in a color of its own, drawn on six crops of 800 pixels of each image. A tenth of what lies in
# data/sa1b (archives as published, or unpacked), and some images that training does not see.
_base_ = '_base_clips.py'
sa1b = dict(
    type='SA1BDataset',
    data_root='data/sa1b',
    num_views=6,
    pipeline=[
        *_base_.load,
        dict(type='SixCrop', size=800),
        *_base_.plain,
        dict(type='DrawLabel', codec=dict(type='RandomColorMaskCodec')),
        dict(type='PackClip', factor=16),
    ])
stores = [
    dict(out='data/tokens/train/seg', dataset=dict(sa1b, fraction=0.1)),
    dict(out='data/tokens/val/seg', dataset=dict(sa1b, fraction=0.01, offset=0.99, indices=500)),
]
