from .autocast_optim_wrapper import AutocastOptimWrapper
from .hooks import (
    ClassifierDistillationHook,
    DistillationHook,
    PanelHook,
    SaveTokenizerHook,
    SoftCausalHook,
    ThroughputHook,
    TokenizerCheckHook,
    ValidationPanelHook,
)

__all__ = [
    "AutocastOptimWrapper",
    "ClassifierDistillationHook",
    "DistillationHook",
    "PanelHook",
    "SaveTokenizerHook",
    "SoftCausalHook",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
