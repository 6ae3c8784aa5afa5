# Token stores of built-in scenes at 256 pixels: a stand-in for real data, to try the full-size configs with.
_base_ = '../_base_/models/delvm.py'
tokenizer = _base_.model.tokenizer
codecs = dict(
    seg=dict(type='ForegroundMaskCodec'),
    pose=dict(type='SkeletonCodec', radius=4, thickness=2),
    derain=dict(type='RestorationCodec'))
stores = [
    dict(
        out=f'data/tokens/{split}/{task}',
        dataset=dict(
            type='ProceduralScenes',
            task=task,
            size=256,
            seed=0,
            start=start,
            length=length,
            pipeline=[dict(type='DrawLabel', codec=codec), dict(type='PackClip', factor=16)]))
    for split, start, length in (('train', 0, 10000), ('val', 1_000_000, 200)) for task, codec in codecs.items()
]
