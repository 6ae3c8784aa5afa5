"""``torch.compile`` for training, layer by layer."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.models import DeLVM
from delvm_mm.registry import HOOKS

PARTS = ("layers", "backbone")


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the decoder of a :class:`DeLVM` before training, and that of its teacher.

    All layers of a decoder have one shape and share one graph, so that compiling takes as long as one layer does,
    whatever the depth; MMEngine's own ``compile=True`` traces the whole training step, losses and logs included. Names
    of weights, checkpoints and generation stay as they are.

    Args:
        parts: 'layers' compiles each decoder layer, 'backbone' the whole decoder as one graph. Defaults to
            'layers'.
        teacher: Whether to compile the teacher of a :class:`DistillationHook` too. Defaults to True.
        **options: Of :func:`torch.compile`, such as ``mode='max-autotune-no-cudagraphs'``.

    Raises:
        ValueError: If ``parts`` is neither of the two.
    """

    # After DistillationHook, which builds the teacher.
    priority = "LOW"

    def __init__(self, parts: str = "layers", teacher: bool = True, **options: Any) -> None:
        if parts not in PARTS:
            raise ValueError(f"CompileHook.parts is {parts!r}, expected 'layers' or 'backbone'")
        self.parts = parts
        self.teacher = teacher
        self.options = options

    def before_train(self, runner: Runner) -> None:
        """Mark what is to be compiled; the first steps then take longer.

        Raises:
            ValueError: If the model is not a :class:`DeLVM`.
        """
        model = unwrap_model(runner.model)
        if not isinstance(model, DeLVM):
            raise ValueError(f"CompileHook compiles the decoder of a DeLVM, the model is a {type(model).__name__}")
        teachers = [hook.teacher for hook in runner.hooks if isinstance(getattr(hook, "teacher", None), DeLVM)]
        for each in [model, *teachers] if self.teacher else [model]:
            for module in self._modules(each):
                self._compile(module)
        runner.logger.info(f"CompileHook: the {self.parts} are compiled at the first step, which takes longer")

    def _compile(self, module: nn.Module) -> None:
        if hasattr(module, "unshard"):
            # What puts a sharded layer together are its hooks, which are to stay outside of the graph.
            module.forward = torch.compile(module.forward, **self.options)
        else:
            module.compile(**self.options)

    def _modules(self, model: DeLVM) -> Iterator[nn.Module]:
        if self.parts == "backbone":
            yield model.backbone
        else:
            yield from model.backbone.layers
