from .autocast_optim_wrapper import AutocastOptimWrapper
from .fully_sharded import FullyShardedDeLVM
from .hooks import (
    ClassifierDistillationHook,
    CompileHook,
    DistillationHook,
    MemoryHook,
    NonFiniteGuardHook,
    PanelHook,
    ReconstructionHook,
    SafeCheckpointHook,
    SaveOnSignalHook,
    SaveTokenizerHook,
    ShardedCheckpointHook,
    SoftCausalHook,
    TaskBalanceHook,
    ThroughputHook,
    TokenizerCheckHook,
    ValidationPanelHook,
)
from .loops import AccumulatingTrainLoop
from .optim_constructor import GroupedOptimWrapperConstructor
from .parts_optim_wrapper import PartsOptimWrapperConstructor
from .self_averaging_model import SelfAveragingModel

__all__ = [
    "AccumulatingTrainLoop",
    "AutocastOptimWrapper",
    "ClassifierDistillationHook",
    "CompileHook",
    "DistillationHook",
    "FullyShardedDeLVM",
    "GroupedOptimWrapperConstructor",
    "MemoryHook",
    "NonFiniteGuardHook",
    "PanelHook",
    "PartsOptimWrapperConstructor",
    "ReconstructionHook",
    "SafeCheckpointHook",
    "SaveOnSignalHook",
    "SaveTokenizerHook",
    "SelfAveragingModel",
    "ShardedCheckpointHook",
    "SoftCausalHook",
    "TaskBalanceHook",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
