# COCO keypoints: the OpenPose skeleton of one person on black, cut out around each person of val2017. Scored by
# mmpose's PCK@0.2 and by COCO's AP, every person as an image of its own; prompts are from train2017.
codec = dict(type='SkeletonCodec', radius=4, thickness=2)
people = dict(
    type='CocoPoseDataset',
    data_root='data/coco',
    per_person=True,
    pipeline=[
        dict(type='LoadImage'),
        dict(type='CropPerson', padding=1.25),
        dict(type='ResizeShortSide', size=256),
        dict(type='CenterCrop', size=256),
        dict(type='DrawLabel', codec=codec)
    ])
coco_pose_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='VisionPromptDataset',
            # prompts show what there is to draw: most of the keypoints
            support=dict(
                **people,
                ann_file='annotations/person_keypoints_train2017.json',
                img_dir='train2017',
                min_keypoints=12),
            query=dict(**people, ann_file='annotations/person_keypoints_val2017.json', img_dir='val2017'),
            num_pairs=3,
            selection='random',
            seed=0)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='coco_pose',
        codec=codec,
        metrics=[
            dict(type='mmpose.PCKAccuracy', thr=0.2, norm_item='bbox'),
            dict(type='mmpose.CocoMetric')
        ]))
del codec, people
