from .classifier_distillation_hook import ClassifierDistillationHook
from .compile_hook import CompileHook
from .distillation_hook import DistillationHook
from .memory_hook import MemoryHook
from .non_finite_guard_hook import NonFiniteGuardHook
from .panel_hook import PanelHook, ValidationPanelHook
from .reconstruction_hook import ReconstructionHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .save_on_signal_hook import SaveOnSignalHook
from .save_tokenizer_hook import SaveTokenizerHook
from .sharded_checkpoint_hook import ShardedCheckpointHook
from .soft_causal_hook import SoftCausalHook
from .task_balance_hook import TaskBalanceHook
from .throughput_hook import ThroughputHook
from .tokenizer_check_hook import TokenizerCheckHook

__all__ = [
    "ClassifierDistillationHook",
    "CompileHook",
    "DistillationHook",
    "MemoryHook",
    "NonFiniteGuardHook",
    "PanelHook",
    "ReconstructionHook",
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
