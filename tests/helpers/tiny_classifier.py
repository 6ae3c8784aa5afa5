"""A small ``VisionLLaMA`` classifier, its training, and a hook that records it; wants mmpretrain."""

import itertools

import torch
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import Dataset

NUMBERS = itertools.count()
PREPROCESSOR = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0], to_rgb=True)


class Images(Dataset):
    """12 random images of 3 classes."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        from mmpretrain.structures import DataSample

        noise = torch.Generator().manual_seed(index)
        image = torch.randint(256, (3, 16, 16), dtype=torch.uint8, generator=noise)
        return dict(inputs=image, data_samples=DataSample().set_gt_label(index % 3))


def classifier(preprocessor=PREPROCESSOR, num_classes=3, mixup=True, **backbone):
    return dict(
        type="ImageClassifier",
        data_preprocessor=dict(num_classes=num_classes, **preprocessor),
        backbone=dict(
            type="delvm_mm.VisionLLaMA",
            arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
            img_size=16,
            patch_size=8,
            init_std=0.3,
            **backbone,
        ),
        head=dict(
            type="VisionTransformerClsHead",
            num_classes=num_classes,
            in_channels=16,
            loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
            init_cfg=dict(type="Normal", layer="Linear", std=0.5),
        ),
        train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8)]) if mixup else None,
    )


def run(folder, *hooks, model=None, epochs=2, **more):
    """Train for some epochs of 3 steps; all hooks are built already or configs."""
    init_default_scope("mmpretrain")
    runner = Runner(
        model=model or classifier(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=4, dataset=Images(), sampler=dict(type="DefaultSampler", shuffle=True), num_workers=0
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3)),
        custom_hooks=list(hooks),
        default_scope="mmpretrain",
        experiment_name=f"classifier_{next(NUMBERS)}",
        randomness=dict(seed=0),
        log_level="WARNING",
        **more,
    )
    runner.train()
    return runner


class Recorder(Hook):
    """What the model was in each step, and what was logged of it."""

    priority = "LOWEST"

    def __init__(self):
        self.shares, self.logs = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.shares.append(float(getattr(runner.model.backbone, "bidirectional_share", torch.tensor(-1.0))))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.logs.append({name: float(torch.as_tensor(value).detach()) for name, value in outputs.items()})
