from .autocast_optim_wrapper import AutocastOptimWrapper
from .hooks import (
    DistillationHook,
    PanelHook,
    SaveTokenizerHook,
    ThroughputHook,
    TokenizerCheckHook,
    ValidationPanelHook,
)
from .loops import AccumulatingTrainLoop
from .optim_constructor import GroupedOptimWrapperConstructor

__all__ = [
    "AccumulatingTrainLoop",
    "AutocastOptimWrapper",
    "DistillationHook",
    "GroupedOptimWrapperConstructor",
    "PanelHook",
    "SaveTokenizerHook",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
