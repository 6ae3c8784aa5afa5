from .autocast_optim_wrapper import AutocastOptimWrapper
from .fully_sharded import FullyShardedDeLVM
from .hooks import (
    CompileHook,
    DistillationHook,
    PanelHook,
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
    "PanelHook",
    "SaveTokenizerHook",
    "ShardedCheckpointHook",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
