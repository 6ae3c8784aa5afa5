"""Backbones built on a toolbox that the language models do without; it is imported when a config names one."""

from typing import Any

from torch import nn

from delvm_mm.registry import MODELS
from delvm_mm.toolboxes import require_toolbox


@MODELS.register_module(name="VisionLLaMA")
def build_vision_llama(**kwargs: Any) -> nn.Module:
    """Build :class:`delvm_mm.models.backbones.vision_llama.VisionLLaMA`; importing mmpretrain's models takes seconds.

    Args:
        **kwargs: The arguments of ``VisionLLaMA``.

    Returns:
        The backbone.

    Raises:
        ImportError: If mmpretrain is not installed or cannot be imported.
    """
    return vision_llama_class()(**kwargs)


def vision_llama_class() -> type[nn.Module]:
    """Import ``VisionLLaMA``, or say in one sentence what is wrong with mmpretrain."""
    require_toolbox("mmpretrain.models")
    from delvm_mm.models.backbones.vision_llama import VisionLLaMA

    return VisionLLaMA
