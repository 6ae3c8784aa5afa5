# The zoo's tokenizer: 96 px to 12 x 12 tokens of 3072 codes, trained on crops of half the side. As it normalizes each
# place by itself and goes on beyond borders, crops and whole images are alike to it, and flat images stay flat.
_base_ = ['_base_data.py', '../_base_/runtime.py']
work_dir = 'work_dirs/zoo/tokenizer'

model = dict(
    type='VQGANTrainer',
    vqgan=dict(
        resolution=96,
        hidden_channels=8,
        channel_mult=(1, 3, 6, 14),
        num_res_blocks=1,
        resample_with_conv=False,
        norm='channel',
        padding_mode='replicate',
        z_channels=32,
        num_embeddings=3072,
        quantized_embed_dim=32,
        linear_skip=True),
    l1_weight=0.2,
    l2_weight=0.,
    log_weight=0.1,
    color_weight=8.,
    color_restarts=True,
    restart_after=60,
    share_flat_codes=True,
    continuous_steps=200,
    channels_last=True)
scenes = {
    task: dict(
        type='ProceduralScenes', task=task, size=_base_.size, seed=0, pipeline=[_base_.draw[codec], _base_.pack])
    for task, codec in (('seg', 'mask'), ('pose', 'skeleton'), ('derain', 'image'))
}
degraded = {
    task: dict(
        **_base_.photos,
        data_root=_base_.photos_root + '/train',
        metainfo=dict(task=task),
        pipeline=[dict(type='LoadImage'), *_base_.augment, *steps, _base_.draw['image'], _base_.pack])
    for task, steps in _base_.degradations.items()
}
degraded_pets = {
    task: dict(
        **_base_.pets,
        ann_file='train.txt',
        task=task,
        pipeline=[*_base_.augment, *steps, _base_.draw['image'], _base_.pack])
    for task, steps in _base_.degradations.items()
}
pet_masks = dict(
    **_base_.pets, ann_file='train.txt', pipeline=[*_base_.augment, _base_.draw['mask'], _base_.pack])
# Two processes, each with a batch of 12 crops (tools/dist_train.sh configs/zoo/tokenizer.py 2).
# Scenes are rendered once, by the process that trains: a worker beside it would slow two cores down.
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=False, seed=0),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='RandomCrops',
        size=48,
        crops=3,
        flat=0.08,
        seed=0,
        sources=[
            dict(dataset=dict(**scenes['seg'], start=0, length=700), share=3),
            dict(dataset=dict(**scenes['pose'], start=0, length=1500), share=14),
            dict(dataset=dict(**scenes['derain'], start=0, length=700), share=3),
            dict(dataset=pet_masks, copies=2, share=4),
            *[dict(dataset=dataset, share=1) for dataset in degraded_pets.values()],
            *[dict(dataset=dataset, copies=5, share=0.5) for dataset in degraded.values()]
        ]))
max_iters = 6000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=1000000)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.95), weight_decay=0.),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=200),
    dict(type='LinearLR', start_factor=1., end_factor=0.005, by_epoch=False, begin=max_iters - 1200, end=max_iters)
]
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=250, max_keep_ckpts=2),
    save_tokenizer=dict(type='SaveTokenizerHook', out_dir=work_dir + '/pretrained'))
del scenes, degraded, degraded_pets, pet_masks
