from .autocast_optim_wrapper import AutocastOptimWrapper
from .hooks import (
    DistillationHook,
    PanelHook,
    SaveTokenizerHook,
    ThroughputHook,
    TokenizerCheckHook,
    ValidationPanelHook,
)

__all__ = [
    "AutocastOptimWrapper",
    "DistillationHook",
    "PanelHook",
    "SaveTokenizerHook",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
