"""Distillation of a classifier: the hook holds the teacher, as in :mod:`.distillation_hook`."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from delvm_mm.checkpoints.io import load_into, load_state_dict
from delvm_mm.engine.configs.files import read_config
from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.registry import HOOKS, MODELS
from delvm_mm.toolboxes import require_toolbox


@HOOKS.register_module()
class ClassifierDistillationHook(Hook):
    """Train a classifier to match a frozen teacher's class distribution as well as the labels.

    The teacher reads the images that the student reads, Mixup and CutMix included; where it was trained with another
    mean, deviation or order of channels, they are converted. The log shows ``loss_ce`` and ``loss_kd`` apart. The
    teacher is held by the hook: it is in no checkpoint, no optimizer, and none of DDP's buckets.

    Args:
        teacher: ``cfg``: a config, its path, or one that mmpretrain carries ('mmpretrain::...'), whose
            ``model`` is an ``mmpretrain.ImageClassifier`` with a head that gives scores; ``checkpoint``: path of its
            weights, or None for random ones, with a warning: for trying a config out.
        loss: The distillation loss. Defaults to ``dict(type='LogitsKLLoss')``: temperature 1, weight 1.

    Raises:
        ValueError: If ``teacher`` lacks a key or has unknown ones; before training, if student or teacher is no
            classifier, their numbers of classes differ, or the weights do not fit.
        FileNotFoundError: Before training, if the config or the weights are missing.

    Examples:
        >>> default_hooks = dict(
        ...     distillation=dict(
        ...         type='delvm_mm.ClassifierDistillationHook',
        ...         teacher=dict(cfg='mmpretrain::convnext/convnext-base_32xb128_in1k.py', checkpoint='convnext.pth'),
        ...         loss=dict(type='LogitsKLLoss', temperature=1.0, loss_weight=1.0)))
    """

    priority = "NORMAL"

    def __init__(self, teacher: Mapping[str, Any], loss: dict[str, Any] | None = None) -> None:
        if set(teacher) != {"cfg", "checkpoint"}:
            raise ValueError(
                f"ClassifierDistillationHook.teacher has the keys {sorted(teacher)}, expected 'cfg' and 'checkpoint' "
                "(a path, or None for random weights)"
            )
        self.teacher_cfg = teacher["cfg"]
        self.teacher_checkpoint = teacher["checkpoint"]
        with DefaultScope.overwrite_default_scope("delvm_mm"):
            self.loss = MODELS.build(loss or dict(type="LogitsKLLoss"))
        self.teacher: nn.Module | None = None
        self._handles: list[Any] = []
        self._student_logits: Tensor | None = None
        self._normalizations: list[tuple[Tensor, Tensor, bool]] | None = None

    def before_train(self, runner: Runner) -> None:
        """Build, load and check the teacher, and listen to the student."""
        classifier = require_toolbox("mmpretrain.models").ImageClassifier
        student = unwrap_model(runner.model)
        if not isinstance(student, classifier) or not student.with_head:
            raise ValueError(
                "ClassifierDistillationHook distils into an mmpretrain.ImageClassifier with a head, the model is a "
                f"{type(student).__name__}"
            )
        teacher = self._build_teacher(classifier)
        ours, theirs = (getattr(model.head, "num_classes", None) for model in (student, teacher))
        if ours and theirs and ours != theirs:
            raise ValueError(f"the teacher has {theirs} classes, the student {ours}; distillation compares the same")
        device = next(student.parameters()).device
        self.teacher = teacher.to(device).requires_grad_(False).eval()
        self.loss.to(device)
        normalizations = [_normalization(model.data_preprocessor, device) for model in (student, teacher)]
        alike = all(bool(torch.as_tensor(one == other).all()) for one, other in zip(*normalizations, strict=True))
        self._normalizations = None if alike else normalizations
        self._handles = [
            student.head.register_forward_hook(self._keep_logits),
            student.register_forward_hook(self._add_loss, with_kwargs=True),
        ]

    def after_train(self, runner: Runner) -> None:
        """Stop listening and let the teacher go."""
        for handle in self._handles:
            handle.remove()
        self._handles, self.teacher = [], None

    def _keep_logits(self, head: nn.Module, args: tuple, output: Tensor) -> None:
        self._student_logits = output if head.training else None

    def _add_loss(self, student: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        given = dict(zip(("inputs", "data_samples", "mode"), args, strict=False)) | kwargs
        if not student.training or given.get("mode") != "loss":
            return output
        logits, self._student_logits = self._student_logits, None
        with torch.no_grad():
            teacher_logits = self.teacher(self._for_teacher(given["inputs"]), mode="tensor")
        losses = dict(output)
        # MMEngine logs the sum as 'loss', which a part of that name would replace.
        losses = {("loss_ce" if name == "loss" else name): value for name, value in losses.items()}
        return losses | dict(loss_kd=self.loss(logits, teacher_logits))

    def _for_teacher(self, images: Tensor) -> Tensor:
        """The images as the teacher's data preprocessor would have normalized them."""
        if self._normalizations is None:
            return images
        (mean, std, order), (teacher_mean, teacher_std, teacher_order) = self._normalizations
        raw = images * std + mean
        return ((raw if order == teacher_order else raw.flip(1)) - teacher_mean) / teacher_std

    def _build_teacher(self, classifier: type[nn.Module]) -> nn.Module:
        cfg, name = self.teacher_cfg, "the teacher's config"
        if isinstance(cfg, str) and "::" in cfg:
            name, cfg = f"the teacher's config {cfg}", get_config(cfg)
        elif isinstance(cfg, str | os.PathLike):
            name = f"the teacher's config {cfg}"
            if not os.path.exists(cfg):
                raise FileNotFoundError(f"{name} does not exist; set ClassifierDistillationHook.teacher.cfg")
            cfg = read_config(os.fspath(cfg))
        if "model" not in cfg:
            raise ValueError(f"{name} has no 'model'")
        model = dict(cfg["model"])
        if cfg.get("data_preprocessor") is not None:
            model.setdefault("data_preprocessor", cfg["data_preprocessor"])
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope") or "mmpretrain"):
            teacher = MODELS.build({**model, "init_cfg": None, "train_cfg": None})
        if not isinstance(teacher, classifier) or not teacher.with_head:
            raise ValueError(f"{name} builds a {type(teacher).__name__}, expected an ImageClassifier with a head")
        if self.teacher_checkpoint is None:
            print_log("ClassifierDistillationHook: the teacher has RANDOM weights (checkpoint=None)", "current", 30)
        else:
            load_into(teacher, load_state_dict(self.teacher_checkpoint), source=self.teacher_checkpoint)
        return teacher


def _normalization(preprocessor: nn.Module, device: torch.device) -> tuple[Tensor, Tensor, bool]:
    """Mean and deviation, 3 x 1 x 1, of a data preprocessor, and whether it turns the channels round."""
    mean = getattr(preprocessor, "mean", torch.zeros(3, 1, 1))
    std = getattr(preprocessor, "std", torch.ones(3, 1, 1))
    return mean.to(device), std.to(device), bool(getattr(preprocessor, "to_rgb", False))
