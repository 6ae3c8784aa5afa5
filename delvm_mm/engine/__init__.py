from .autocast_optim_wrapper import AutocastOptimWrapper
from .hooks import (
    DistillationHook,
    PanelHook,
    ReconstructionHook,
    SaveTokenizerHook,
    ThroughputHook,
    TokenizerCheckHook,
    ValidationPanelHook,
)
from .parts_optim_wrapper import PartsOptimWrapperConstructor
from .self_averaging_model import SelfAveragingModel

__all__ = [
    "AutocastOptimWrapper",
    "DistillationHook",
    "PanelHook",
    "PartsOptimWrapperConstructor",
    "ReconstructionHook",
    "SaveTokenizerHook",
    "SelfAveragingModel",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
