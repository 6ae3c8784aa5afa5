from .autocast_optim_wrapper import AutocastOptimWrapper
from .hooks import (
    DistillationHook,
    MemoryHook,
    NonFiniteGuardHook,
    PanelHook,
    SafeCheckpointHook,
    SaveOnSignalHook,
    SaveTokenizerHook,
    ThroughputHook,
    TokenizerCheckHook,
    ValidationPanelHook,
)

__all__ = [
    "AutocastOptimWrapper",
    "DistillationHook",
    "MemoryHook",
    "NonFiniteGuardHook",
    "PanelHook",
    "SafeCheckpointHook",
    "SaveOnSignalHook",
    "SaveTokenizerHook",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
