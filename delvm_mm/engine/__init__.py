from delvm_mm.engine.fully_sharded import FullyShardedDeLVM
from delvm_mm.engine.hooks import (
    ClassifierDistillationHook,
    CompileHook,
    DistillationHook,
    MemoryHook,
    NonFiniteGuardHook,
    PanelHook,
    ReconstructionHook,
    ResumedScheduleHook,
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
from delvm_mm.engine.loops import AccumulatingTrainLoop
from delvm_mm.engine.optimizers.autocast_optim_wrapper import AutocastOptimWrapper
from delvm_mm.engine.optimizers.multi_optim_wrapper import MultiOptimWrapperConstructor
from delvm_mm.engine.optimizers.optim_constructor import GroupedOptimWrapperConstructor
from delvm_mm.engine.reports.log_processor import LogProcessor
from delvm_mm.engine.self_averaging_model import SelfAveragingModel
from delvm_mm.engine.task_val_loop import TaskValLoop

__all__ = [
    "AccumulatingTrainLoop",
    "AutocastOptimWrapper",
    "ClassifierDistillationHook",
    "CompileHook",
    "DistillationHook",
    "FullyShardedDeLVM",
    "GroupedOptimWrapperConstructor",
    "LogProcessor",
    "MemoryHook",
    "MultiOptimWrapperConstructor",
    "NonFiniteGuardHook",
    "PanelHook",
    "ReconstructionHook",
    "ResumedScheduleHook",
    "SafeCheckpointHook",
    "SaveOnSignalHook",
    "SaveTokenizerHook",
    "SelfAveragingModel",
    "ShardedCheckpointHook",
    "SoftCausalHook",
    "TaskBalanceHook",
    "TaskValLoop",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
