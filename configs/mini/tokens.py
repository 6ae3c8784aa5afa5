# Token stores of the built-in scenes, for tools/tokenize_dataset.py.
_base_ = ['_base_scenes.py', '../_base_/runtime.py']
work_dir = _base_.root + '/tokens'
stores = [
    dict(out=f'{_base_.root}/tokens/{split}/{task}', dataset=dict(**clip, start=start, length=length))
    for split, start, length in (('train', 0, 1000), ('val', 1_000_000, 64)) for task, clip in _base_.clips.items()
]
tokenization = dict(batch_clips=16, num_workers=1, shard_clips=400)
