# Pascal-5i: the objects of one class in white on black, for classes that training does not see. Fold 0 holds out
# aeroplane to bottle; each query of VOC's val is shown three pairs of its class from VOC's train. With this as
# tasks['pascal5i'] of a config, another fold is, in a config derived from that one or with --cfg-options:
#     tasks = dict(pascal5i=dict(dataloader=dict(dataset=dict(support=dict(fold=1), query=dict(fold=1)))))
#     tasks.pascal5i.dataloader.dataset.support.fold=1 tasks.pascal5i.dataloader.dataset.query.fold=1
# The published mIoU of a fold is 'mIoU': over its five classes, of all images of a class.
codec = dict(type='ForegroundMaskCodec')
voc = dict(
    type='Pascal5iDataset',
    data_root='data/VOCdevkit/VOC2012',
    fold=0,
    classes='held_out',
    pipeline=[
        dict(type='LoadImage'),
        dict(type='ResizeShortSide', size=256),
        dict(type='CenterCrop', size=256),
        dict(type='DrawLabel', codec=codec)
    ])
pascal5i_task = dict(
    dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='VisionPromptDataset',
            support=dict(**voc, split='train'),
            query=dict(**voc, split='val'),
            num_pairs=3,
            selection='class',
            seed=0)),
    evaluator=dict(
        type='VisionPromptEvaluator',
        prefix='pascal5i',
        codec=codec,
        metrics=[dict(type='ForegroundIoUMetric')]))
del codec, voc
