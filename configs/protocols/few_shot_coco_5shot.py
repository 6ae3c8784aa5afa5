# As few_shot_coco.py, with five pairs. The context has to hold twelve images.
_base_ = 'few_shot_coco.py'
few_shot_coco_task = dict(dataloader=dict(dataset=dict(num_pairs=5)))
