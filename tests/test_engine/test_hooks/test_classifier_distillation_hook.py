"""A classifier that is distilled."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope

from delvm_mm.engine import ClassifierDistillationHook
from delvm_mm.models import LogitsKLLoss
from helpers.tiny_classifier import PREPROCESSOR, Recorder, classifier, run

pytest.importorskip("mmpretrain")


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
