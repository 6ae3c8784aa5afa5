from delvm_mm.engine.hooks.checkpoints.resumed_schedule_hook import ResumedScheduleHook
from delvm_mm.engine.hooks.checkpoints.safe_checkpoint_hook import SafeCheckpointHook
from delvm_mm.engine.hooks.checkpoints.save_on_signal_hook import SaveOnSignalHook
from delvm_mm.engine.hooks.checkpoints.save_tokenizer_hook import SaveTokenizerHook
from delvm_mm.engine.hooks.checkpoints.sharded_checkpoint_hook import ShardedCheckpointHook
from delvm_mm.engine.hooks.classifier_distillation_hook import ClassifierDistillationHook
from delvm_mm.engine.hooks.compile_hook import CompileHook
from delvm_mm.engine.hooks.distillation_hook import DistillationHook
from delvm_mm.engine.hooks.memory_hook import MemoryHook
from delvm_mm.engine.hooks.non_finite_guard_hook import NonFiniteGuardHook
from delvm_mm.engine.hooks.panel_hook import PanelHook, ValidationPanelHook
from delvm_mm.engine.hooks.reconstruction_hook import ReconstructionHook
from delvm_mm.engine.hooks.report_hook import ReportHook
from delvm_mm.engine.hooks.soft_causal_hook import SoftCausalHook
from delvm_mm.engine.hooks.task_balance_hook import TaskBalanceHook
from delvm_mm.engine.hooks.throughput_hook import ThroughputHook
from delvm_mm.engine.hooks.tokenizer_check_hook import TokenizerCheckHook

__all__ = [
    "ClassifierDistillationHook",
    "CompileHook",
    "DistillationHook",
    "MemoryHook",
    "NonFiniteGuardHook",
    "PanelHook",
    "ReconstructionHook",
    "ReportHook",
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
]
