# Token stores for the longer schedule: 9 000 clips a task (about 7 minutes on 2 cores).
_base_ = '../mini/tokens.py'
root = 'work_dirs/mini_long'
work_dir = root + '/tokens'
stores = [
    dict(out=f'{root}/tokens/{split}/{task}', dataset=dict(**clip, start=start, length=length))
    for split, start, length in (('train', 0, 9000), ('val', 1_000_000, 64)) for task, clip in _base_.clips.items()
]
tokenization = dict(shard_clips=1000)
