"""Knowledge distillation as a hook: the hook holds the teacher, which is never a part of the student."""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.engine.distillation.offline import CachedTeacher
from delvm_mm.engine.distillation.online import OnlineTeacher, build_teacher
from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.models import DeLVM
from delvm_mm.models.answering import floating_dtype
from delvm_mm.registry import HOOKS, MODELS

TEACHER_OPTIONS = {"dtype", "compile", "overlap"}


@HOOKS.register_module()
class DistillationHook(Hook):
    """Train the student to match a frozen teacher's next-token distribution as well as the data.

    The teacher reads the same batch as the student, and the loss is added to the student's own; the log shows
    ``loss_ce`` and ``loss_kd`` apart. The teacher is held by the hook: it is in no checkpoint, no optimizer, and none
    of DDP's buckets. It is built, loaded and checked before the first step, also when a run is resumed.

    Args:
        teacher: ``cfg``: path of a config, or a config, whose ``model`` is a :class:`DeLVM`; ``checkpoint``:
            path of its weights. ``checkpoint=None`` leaves the teacher at its random weights, with a warning: for
            trying a config out before the teacher is trained. Optional: ``dtype``, the type of its weights such as
            'bfloat16' (float32 by default; under autocast products are in autocast's type anyway); ``compile``, to
            compile its layers; ``overlap``, to let it read in a CUDA stream of its own beside the student. Or ``cache``
            alone: the folder of a teacher cache that ``delvm cache-teacher`` made of the same sentences; then no
            teacher is loaded.
        loss: The distillation loss. Defaults to ``dict(type='LogitsKLLoss')``, as published: temperature 1,
            weight 1.
        layers: Also match layers: ``pairs``, a list of (student's layer, teacher's layer) counted
            from 0, negative from the end, and ``loss``, by default ``dict(type='SimilarityLoss')``. Logged as
            ``loss_layers``.
        schedule: Of the weight of ``loss``, a factor that goes from ``start`` to ``stop`` (1 and 0 by
            default) between the steps ``begin`` (0 by default) and ``end``; ``shape`` is 'linear' (the default) or
            'cosine'. Logged as ``kd_factor``.

    Raises:
        ValueError: If an argument lacks a key or has unknown ones.

    Examples:
        >>> default_hooks = dict(
        ...     distillation=dict(
        ...         type='DistillationHook',
        ...         teacher=dict(cfg='configs/delvm/llama1b.py', checkpoint='work_dirs/llama1b/iter_40000.pth'),
        ...         loss=dict(type='LogitsKLLoss', temperature=1.0, loss_weight=1.0)))
    """

    priority = "NORMAL"

    def __init__(
        self,
        teacher: Mapping[str, Any],
        loss: dict[str, Any] | None = None,
        layers: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
    ) -> None:
        is_online = {"cfg", "checkpoint"} <= set(teacher) <= {"cfg", "checkpoint"} | TEACHER_OPTIONS
        if not is_online and set(teacher) != {"cache"}:
            raise ValueError(
                f"DistillationHook.teacher has the keys {sorted(teacher)}, expected 'cfg' and 'checkpoint' (a path, or "
                f"None for random weights), and optionally {sorted(TEACHER_OPTIONS)}; or 'cache' alone"
            )
        if not is_online and layers is not None:
            raise ValueError("DistillationHook.layers needs a teacher online: a teacher cache has no layers")
        if layers is not None and not {"pairs"} <= set(layers) <= {"pairs", "loss"}:
            raise ValueError(
                f"DistillationHook.layers has the keys {sorted(layers)}, expected 'pairs' and maybe 'loss'"
            )
        self.teacher_cfg = dict(teacher)
        self.loss = MODELS.build(loss or dict(type="LogitsKLLoss"))
        self.layers = None if layers is None else dict(layers)
        self.schedule = None if schedule is None else _checked_schedule(schedule)
        self.teacher: DeLVM | None = None
        self.extra_loss: OnlineTeacher | CachedTeacher | None = None

    def before_train(self, runner: Runner) -> None:
        """Build, load and check the teacher, and add its loss to the student's."""
        student = unwrap_model(runner.model)
        if not isinstance(student, DeLVM):
            raise ValueError(f"DistillationHook distils into a DeLVM, the model is a {type(student).__name__}")
        if self.extra_loss is not None:  # a run before this one ended with an error
            self.after_train(runner)
        self.loss.to(next(student.parameters()).device)
        self.extra_loss = self._online(student) if "cfg" in self.teacher_cfg else self._offline(runner)
        student.extra_losses.append(self.extra_loss)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the weight of this step."""
        if self.schedule is not None:
            self.extra_loss.factor = factor_at(runner.iter, **self.schedule)
            runner.message_hub.update_scalar("train/kd_factor", self.extra_loss.factor)

    def after_train(self, runner: Runner) -> None:
        """Take the loss away and let the teacher go."""
        unwrap_model(runner.model).extra_losses.remove(self.extra_loss)
        self.extra_loss.close()
        self.teacher = self.extra_loss = None

    def _offline(self, runner: Runner) -> CachedTeacher:
        cached = CachedTeacher(self.teacher_cfg["cache"], self.loss)
        cached.check(runner)
        runner.logger.info(f"distillation from {cached.cache}")
        return cached

    def _online(self, student: DeLVM) -> OnlineTeacher:
        cfg = self.teacher_cfg
        self.teacher = build_teacher(cfg["cfg"], cfg["checkpoint"], student)
        if cfg.get("dtype"):
            self.teacher.to(floating_dtype(cfg["dtype"]))
        if cfg.get("compile"):
            for layer in self.teacher.backbone.layers:
                layer.compile()
        layers, layer_loss = (), None
        if self.layers:
            layers = [tuple(pair) for pair in self.layers["pairs"]]
            layer_loss = MODELS.build(self.layers.get("loss", dict(type="SimilarityLoss")))
        return OnlineTeacher(self.teacher, self.loss, layers, layer_loss, student, cfg.get("overlap", False))


def factor_at(
    step: int, end: int, begin: int = 0, start: float = 1.0, stop: float = 0.0, shape: str = "linear"
) -> float:
    """Value of a line or half a cosine from ``start`` at step ``begin`` to ``stop`` at ``end``, constant outside."""
    progress = min(max((step - begin) / (end - begin), 0.0), 1.0)
    if shape == "cosine":
        progress = (1 - math.cos(math.pi * progress)) / 2
    return start + (stop - start) * progress


def _checked_schedule(schedule: Mapping[str, Any]) -> dict[str, Any]:
    known = {"begin", "end", "start", "stop", "shape"}
    if "end" not in schedule or set(schedule) - known:
        raise ValueError(
            f"DistillationHook.schedule has the keys {sorted(schedule)}, expected 'end' and maybe {sorted(known)}"
        )
    if schedule.get("shape", "linear") not in ("linear", "cosine"):
        raise ValueError(f"DistillationHook.schedule.shape is {schedule['shape']!r}, expected 'linear' or 'cosine'")
    if schedule["end"] <= schedule.get("begin", 0):
        raise ValueError(f"DistillationHook.schedule ends at {schedule['end']}, before it begins")
    return dict(schedule)
