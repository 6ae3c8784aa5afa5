# Token stores of eight tasks on built-in scenes:
#     python tools/tokenize_dataset.py configs/mini_tasks/tokens.py
_base_ = ['_base_scenes.py', '../_base_/runtime.py']
work_dir = _base_.root + '/tokens'
stores = [
    dict(out=f'{_base_.root}/tokens/{split}/{task}', dataset=dict(**clip, start=start, length=length))
    for split, start, length in (('train', 0, 1000), ('val', 1_000_000, 32)) for task, clip in _base_.clips.items()
]
tokenization = dict(batch_clips=16, num_workers=1, shard_clips=400)
