# As few_shot_pascal.py, with five pairs. The context has to hold twelve images.
_base_ = 'few_shot_pascal.py'
few_shot_pascal_task = dict(dataloader=dict(dataset=dict(num_pairs=5)))
