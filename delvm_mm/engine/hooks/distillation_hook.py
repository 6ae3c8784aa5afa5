"""Knowledge distillation as a hook: the teacher is a guest of the training run, never a part of the student."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor

from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.models import DeLVM
from delvm_mm.models.checkpoint_io import load_into, load_state_dict
from delvm_mm.registry import HOOKS, MODELS


@HOOKS.register_module()
class DistillationHook(Hook):
    """Train the student to match a frozen teacher's next-token distribution as well as the data.

    The teacher reads the same batch as the student, and the loss is added to the student's own; the log shows
    ``loss_ce`` and ``loss_kd`` apart. The teacher is held by the hook: it is in no checkpoint, no optimizer, and none
    of DDP's buckets. It is built, loaded and checked before the first step, also when a run is resumed.

    Args:
        teacher (dict): ``cfg``: path of a config, or a config, whose ``model`` is a :class:`DeLVM`; ``checkpoint``:
            path of its weights. ``checkpoint=None`` leaves the teacher at its random weights, with a warning: for
            trying a config out before the teacher is trained.
        loss (dict): The distillation loss. Defaults to ``dict(type='LogitsKLLoss')``, as published: temperature 1,
            weight 1.

    Raises:
        ValueError: If ``teacher`` lacks a key or has unknown ones.

    Examples:
        >>> custom_hooks = [
        ...     dict(
        ...         type='DistillationHook',
        ...         teacher=dict(cfg='configs/delvm/llama1b.py', checkpoint='work_dirs/llama1b/iter_40000.pth'),
        ...         loss=dict(type='LogitsKLLoss', temperature=1.0, loss_weight=1.0))
        ... ]
    """

    priority = "NORMAL"

    def __init__(self, teacher: Mapping[str, Any], loss: dict[str, Any] | None = None) -> None:
        if set(teacher) != {"cfg", "checkpoint"}:
            raise ValueError(
                f"DistillationHook.teacher has the keys {sorted(teacher)}, expected 'cfg' and 'checkpoint' (a path, or "
                "None for random weights)"
            )
        self.teacher_cfg = teacher["cfg"]
        self.teacher_checkpoint = teacher["checkpoint"]
        self.loss = MODELS.build(loss or dict(type="LogitsKLLoss"))
        self.teacher: DeLVM | None = None

    def before_train(self, runner: Runner) -> None:
        """Build, load and check the teacher, and add its loss to the student's."""
        student = unwrap_model(runner.model)
        if not isinstance(student, DeLVM):
            raise ValueError(f"DistillationHook distils into a DeLVM, the model is a {type(student).__name__}")
        self.teacher = self._build_teacher(student)
        device = next(student.parameters()).device
        self.teacher.to(device).requires_grad_(False).eval()
        self.loss.to(device)
        student.extra_losses.append(self._distillation_loss)

    def after_train(self, runner: Runner) -> None:
        """Take the loss away and let the teacher go."""
        unwrap_model(runner.model).extra_losses.remove(self._distillation_loss)
        self.teacher = None

    def _distillation_loss(self, tokens: Tensor, student_logits: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            teacher_logits = self.teacher(tokens)[:, :-1]
        return dict(loss_kd=self.loss(student_logits, teacher_logits))

    def _build_teacher(self, student: DeLVM) -> DeLVM:
        cfg = self.teacher_cfg
        name = "the teacher's config"
        if isinstance(cfg, str | os.PathLike):
            name = f"the teacher's config {cfg}"
            if not os.path.exists(cfg):
                raise FileNotFoundError(f"{name} does not exist; set DistillationHook.teacher.cfg")
            cfg = Config.fromfile(cfg)
        weights = self._load_weights(student)
        # The student's own tokenizer serves both; weights trained with another one are refused when they are loaded.
        if "model" not in cfg:
            raise ValueError(f"{name} has no 'model'")
        teacher = MODELS.build({**cfg["model"], "tokenizer": student.tokenizer, "init_cfg": None})
        if not isinstance(teacher, DeLVM):
            raise ValueError(f"{name} builds a {type(teacher).__name__}, expected a DeLVM")
        if teacher.num_embeddings != student.num_embeddings:
            raise ValueError(
                f"{name} has a vocabulary of {teacher.num_embeddings}, the student's is {student.num_embeddings}; "
                "distillation compares the same codes"
            )
        if teacher.max_positions < student.max_positions:
            raise ValueError(
                f"{name} has a context of {teacher.max_positions} tokens, the student's is {student.max_positions}; "
                "the teacher must read the same sentences"
            )
        if weights is None:
            print_log("DistillationHook: the teacher has RANDOM weights (checkpoint=None)", "current", 30)
        else:
            weights.setdefault("tokenizer_digest", teacher.tokenizer_digest)
            load_into(teacher, weights, source=self.teacher_checkpoint)
            self._check_codebook(teacher, student)
        return teacher

    def _load_weights(self, student: DeLVM) -> dict[str, Tensor] | None:
        if self.teacher_checkpoint is None:
            return None
        weights = load_state_dict(self.teacher_checkpoint)
        weights = {key: value for key, value in weights.items() if not key.startswith("tokenizer.")}
        head = weights.get("head.projection.weight")
        if head is not None and head.shape[0] != student.num_embeddings:
            raise ValueError(
                f"the teacher's checkpoint {self.teacher_checkpoint} has a vocabulary of {head.shape[0]}, the "
                f"student's is {student.num_embeddings}; distillation compares the same codes"
            )
        return weights

    def _check_codebook(self, teacher: DeLVM, student: DeLVM) -> None:
        ours, theirs = (getattr(model.embedding, "codebook", None) for model in (student, teacher))
        if ours is not None and theirs is not None and not torch.equal(ours.cpu(), theirs.cpu()):
            raise ValueError(
                f"the teacher's checkpoint {self.teacher_checkpoint} holds another codebook than the student's "
                "tokenizer; train both with the same tokenizer"
            )
