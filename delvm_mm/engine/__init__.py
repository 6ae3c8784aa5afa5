"""Training and testing: hooks, loops, optimizers, and what the commands share."""

from delvm_mm.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fully_sharded": ["FullyShardedDeLVM"],
        "hooks": [
            "ClassifierDistillationHook",
            "CompileHook",
            "DistillationHook",
            "MemoryHook",
            "NonFiniteGuardHook",
            "PanelHook",
            "ReconstructionHook",
            "ResumedScheduleHook",
            "SafeCheckpointHook",
            "SaveOnSignalHook",
            "SaveTokenizerHook",
            "ShardedCheckpointHook",
            "SoftCausalHook",
            "TaskBalanceHook",
            "ThroughputHook",
            "TokenizerCheckHook",
            "ValidationPanelHook",
        ],
        "loops": ["AccumulatingTrainLoop"],
        "optimizers.autocast_optim_wrapper": ["AutocastOptimWrapper"],
        "optimizers.multi_optim_wrapper": ["MultiOptimWrapperConstructor"],
        "optimizers.optim_constructor": ["GroupedOptimWrapperConstructor"],
        "reports.log_processor": ["LogProcessor"],
        "self_averaging_model": ["SelfAveragingModel"],
        "task_val_loop": ["TaskValLoop"],
    },
)
