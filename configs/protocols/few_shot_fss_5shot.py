# As few_shot_fss.py, with five pairs. The context has to hold twelve images.
_base_ = 'few_shot_fss.py'
few_shot_fss_task = dict(dataloader=dict(dataset=dict(num_pairs=5)))
