# COCO keypoints, bottom-up: the OpenPose skeletons of all people of an image on black. The whole of each image of
# val2017 is seen (letterboxed), and what is read back is scored as COCO does: in pixels of the image as it was
# published, with COCO's areas, its crowds and people without keypoints left out. Prompts are from train2017. A model of
# 256-px images takes 256 here; see docs/people_and_instances.md for what small discs and large images bring back.
codec = dict(type='SkeletonCodec', radius=2, thickness=1, max_people=20)
pipeline = [
    dict(type='LoadImage'),
    dict(type='KeepAnnotation', codec=codec),
    dict(type='Letterbox', size=256),
    dict(type='DrawLabel', codec=codec)
]
people = dict(type='CocoPoseDataset', data_root='data/coco', pipeline=pipeline)
coco_people_task = dict(
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
            query=dict(
                **people, ann_file='annotations/person_keypoints_val2017.json', img_dir='val2017', ignored=True),
            num_pairs=3,
            selection='random',
            seed=0)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='coco_people',
        codec=codec,
        original=True,
        metrics=[dict(type='mmpose.CocoMetric')]))
del codec, people, pipeline
