# MPII: the OpenPose skeleton of one person on black, cut out around each person of the validation set. Scored by
# mmpose's PCK: within 0.2 of the longer side of the box, and within 0.5 of the head's size (PCKh). The twelve keypoints
# of MPII that COCO has too are scored; prompts are from MPII's training set.
codec = dict(type='SkeletonCodec', radius=4, thickness=2)
people = dict(
    type='MpiiDataset',
    data_root='data/mpii',
    pipeline=[
        dict(type='LoadImage'),
        dict(type='CropPerson', padding=1.25),
        dict(type='ResizeShortSide', size=256),
        dict(type='CenterCrop', size=256),
        dict(type='DrawLabel', codec=codec)
    ])
mpii_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='VisionPromptDataset',
            # prompts show what there is to draw: most of the twelve keypoints
            support=dict(**people, ann_file='annotations/mpii_train.json', min_keypoints=10),
            query=dict(**people, ann_file='annotations/mpii_val.json', head_boxes='annotations/mpii_gt_val.mat'),
            num_pairs=3,
            selection='random',
            seed=0)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='mpii',
        codec=codec,
        metrics=[
            dict(type='mmpose.PCKAccuracy', thr=0.2, norm_item='bbox'),
            dict(type='mmpose.PCKAccuracy', thr=0.5, norm_item='head')
        ]))
del codec, people
