# Token stores of built-in scenes for the quick start's student: nothing to download.
#     python tools/tokenize_dataset.py configs/quickstart/tokens.py
_base_ = ['../zoo/_base_data.py', '../_base_/runtime.py']
root = 'work_dirs/quickstart'
work_dir = root + '/tokens'
tokenizer = dict(type='VQGAN', pretrained='delvm_mm://zoo_tokenizer')
# Clips of each task. The shipped model was trained on scenes from 0, these are others; prompts are from 2 000 000 and
# queries from 3 000 000 (../zoo/_base_tasks.py).
num_scenes = dict(seg=600, pose=1000, derain=500)
stores = [
    dict(
        out=f'{root}/tokens/{split}/{task}_scenes',
        dataset=dict(
            type='ProceduralScenes',
            task=task,
            size=_base_.size,
            seed=0,
            start=start,
            length=length or num_scenes[task],
            pipeline=[_base_.draw[codec], _base_.pack])) for split, start, length in (('train', 500_000, None),
                                                                                      ('val', 1_000_000, 32))
    for task, codec in (('seg', 'mask'), ('pose', 'skeleton'), ('derain', 'image'))
]
tokenization = dict(batch_clips=16, num_workers=0, shard_clips=200)
