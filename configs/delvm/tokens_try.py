# Sixteen built-in scenes a task for trying the full-size configs out; see docs/configs.md.
_base_ = 'tokens_scenes.py'
tokenizer = dict(pretrained='work_dirs/try/vqgan')
stores = [
    dict(out=store['out'].replace('data/', 'work_dirs/try/'), dataset=dict(store['dataset'], length=16))
    for store in _base_.stores if '/train/' in store['out']
]
