from .autocast_optim_wrapper import AutocastOptimWrapper
from .fully_sharded import FullyShardedDeLVM
from .hooks import (
    CompileHook,
    DistillationHook,
    MemoryHook,
    NonFiniteGuardHook,
    PanelHook,
    SafeCheckpointHook,
    SaveOnSignalHook,
    SaveTokenizerHook,
    ShardedCheckpointHook,
    ThroughputHook,
    TokenizerCheckHook,
    ValidationPanelHook,
)
from .loops import AccumulatingTrainLoop
from .optim_constructor import GroupedOptimWrapperConstructor

__all__ = [
    "AccumulatingTrainLoop",
    "AutocastOptimWrapper",
    "CompileHook",
    "DistillationHook",
    "FullyShardedDeLVM",
    "GroupedOptimWrapperConstructor",
    "MemoryHook",
    "NonFiniteGuardHook",
    "PanelHook",
    "SafeCheckpointHook",
    "SaveOnSignalHook",
    "SaveTokenizerHook",
    "ShardedCheckpointHook",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
