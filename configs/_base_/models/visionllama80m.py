# LLaMA-80M over 14 x 14 patches. Stochastic depth, learned beside rotary positions, class token behind the patches and
# attention that turns causal are as iLLaMA-B has them (arXiv 2404.06773); the paper of DeLVM publishes none of these.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='delvm_mm.VisionLLaMA',
        arch='80m',
        img_size=224,
        patch_size=16,
        attention='soft',
        with_pos_embed=True,
        drop_path_rate=0.4),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
