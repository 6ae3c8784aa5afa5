from .compile_hook import CompileHook
from .distillation_hook import DistillationHook
from .panel_hook import PanelHook, ValidationPanelHook
from .save_tokenizer_hook import SaveTokenizerHook
from .sharded_checkpoint_hook import ShardedCheckpointHook
from .task_balance_hook import TaskBalanceHook
from .throughput_hook import ThroughputHook
from .tokenizer_check_hook import TokenizerCheckHook

__all__ = [
    "CompileHook",
    "DistillationHook",
    "PanelHook",
    "SaveTokenizerHook",
    "ShardedCheckpointHook",
    "TaskBalanceHook",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
