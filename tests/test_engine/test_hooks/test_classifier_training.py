"""Training a ``VisionLLaMA`` classifier with MMEngine's runner: the soft causal schedule and distillation."""

import itertools

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import Dataset

from delvm_mm.engine import ClassifierDistillationHook, SoftCausalHook
from delvm_mm.models import LogitsKLLoss

pytest.importorskip("mmpretrain")

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


def test_attention_goes_from_bidirectional_to_causal_over_the_given_epochs(tmp_path):
    recorder = Recorder()
    run(tmp_path, SoftCausalHook(begin=1, end=3), recorder, model=classifier(attention="soft"), epochs=4)
    expected = [1, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0, 0]
    assert recorder.shares == pytest.approx(expected, abs=1e-6)


def test_a_resumed_run_goes_on_with_the_schedule(tmp_path):
    hook = SoftCausalHook(end=8, by_epoch=False)
    run(tmp_path, hook, model=classifier(attention="soft"), epochs=1)
    recorder = Recorder()
    run(tmp_path, hook, recorder, model=classifier(attention="soft"), epochs=2, resume=True)
    assert recorder.shares == pytest.approx([5 / 8, 4 / 8, 3 / 8])


def test_a_schedule_without_anything_to_blend_is_refused(tmp_path):
    with pytest.raises(ValueError, match="attention='soft'"):
        run(tmp_path, SoftCausalHook(end=1))
    with pytest.raises(ValueError, match="0 <= begin < end"):
        SoftCausalHook(begin=2, end=2)


@pytest.fixture
def teacher(tmp_path):
    """A teacher that reads the other order of channels, with another mean and deviation."""
    init_default_scope("mmpretrain")
    from mmpretrain.registry import MODELS

    torch.manual_seed(1)
    cfg = dict(model=classifier(dict(mean=[1.0, 2.0, 3.0], std=[2.0, 4.0, 8.0], to_rgb=False), mixup=False))
    built = MODELS.build(cfg["model"])
    built.init_weights()
    torch.save(dict(state_dict=built.state_dict(), meta={}), tmp_path / "teacher.pth")
    return dict(cfg=cfg, checkpoint=str(tmp_path / "teacher.pth")), built.eval()


def test_the_loss_is_that_of_labels_plus_divergence_from_the_teacher_on_the_mixed_images(tmp_path, teacher):
    config, built = teacher
    seen = []

    class Listener(Hook):
        def before_train(self, runner):
            model = runner.model
            model.register_forward_hook(lambda module, args, kwargs, out: seen.append(kwargs), with_kwargs=True)
            model.head.register_forward_hook(lambda module, args, out: seen.append(out.detach()))

    recorder = Recorder()
    loss = dict(type="LogitsKLLoss", temperature=2.0, loss_weight=0.5)
    run(tmp_path, Listener(), ClassifierDistillationHook(config, loss), recorder, epochs=1)
    mean, std = (torch.tensor(PREPROCESSOR[key]).view(3, 1, 1) for key in ("mean", "std"))
    for log, logits, kwargs in zip(recorder.logs, seen[::2], seen[1::2], strict=True):
        pixels = (kwargs["inputs"] * std + mean).flip(1)  # to_rgb of the student turned them
        theirs = (pixels - torch.tensor([1.0, 2, 3]).view(3, 1, 1)) / torch.tensor([2.0, 4, 8]).view(3, 1, 1)
        with torch.no_grad():
            expected = LogitsKLLoss(2.0, loss_weight=0.5)(logits, built(theirs, mode="tensor"))
        assert log["loss_kd"] == pytest.approx(float(expected), rel=1e-3) and log["loss_kd"] > 1e-3
        assert log["loss"] == pytest.approx(log["loss_ce"] + log["loss_kd"], rel=1e-5)


def test_the_teacher_leaves_no_trace(tmp_path, teacher):
    config, _ = teacher
    names = set(classifier_names())
    hook = ClassifierDistillationHook(config)
    runner = run(tmp_path, hook, epochs=1)
    assert hook.teacher is None and not runner.model._forward_hooks and not runner.model.head._forward_hooks
    saved = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    assert set(saved["state_dict"]) == names
    assert sum(len(group["params"]) for group in saved["optimizer"]["param_groups"]) == len(names)


def classifier_names():
    init_default_scope("mmpretrain")
    from mmpretrain.registry import MODELS

    return MODELS.build(classifier()).state_dict()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(cfg=dict(model=classifier(num_classes=4)), checkpoint=None), ValueError, "4 classes, the student 3"),
        (dict(cfg="gone.py", checkpoint=None), FileNotFoundError, "gone.py"),
        (dict(cfg=dict(train_cfg=None), checkpoint=None), ValueError, "no 'model'"),
        (dict(cfg=dict(model=classifier()), checkpoint="gone.pth"), FileNotFoundError, "gone.pth"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_before_the_first_step(tmp_path, changes, error, message):
    recorder = Recorder()
    with pytest.raises(error, match=message):
        run(tmp_path, ClassifierDistillationHook(changes), recorder, epochs=1)
    assert not recorder.logs


def test_a_teacher_is_described_by_config_and_checkpoint():
    with pytest.raises(ValueError, match="expected 'cfg' and 'checkpoint'"):
        ClassifierDistillationHook(dict(config="teacher.py"))


def test_layer_wise_decay_gives_lower_layers_lower_rates():
    init_default_scope("mmpretrain")
    from mmengine.optim import build_optim_wrapper
    from mmpretrain.registry import MODELS

    wrapper = build_optim_wrapper(
        MODELS.build(classifier(with_pos_embed=True)),
        dict(
            optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.1),
            constructor="LearningRateDecayOptimWrapperConstructor",
            paramwise_cfg=dict(
                layer_decay_rate=0.5, flat_decay_mult=0.0, custom_keys={".pos_embed": dict(decay_mult=0.0)}
            ),
        ),
    )
    groups = {group["param_name"]: (group["lr"], group["weight_decay"]) for group in wrapper.optimizer.param_groups}
    # Depths of a model of 2 layers: 0 before them, 1, 2, and 3 behind them.
    assert groups["backbone.pos_embed"] == (1 / 8, 0.0)
    assert groups["backbone.patch_embed.projection.weight"] == (1 / 8, 0.1)
    assert groups["backbone.layers.0.mlp.up_proj.weight"] == (1 / 4, 0.1)
    assert groups["backbone.layers.1.input_layernorm.weight"] == (1 / 2, 0.0)
    assert groups["backbone.norm.weight"] == (1, 0.0) and groups["head.layers.head.weight"] == (1, 0.1)
