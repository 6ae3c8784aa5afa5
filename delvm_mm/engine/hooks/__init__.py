from .distillation_hook import DistillationHook
from .panel_hook import PanelHook, ValidationPanelHook
from .reconstruction_hook import ReconstructionHook
from .save_tokenizer_hook import SaveTokenizerHook
from .task_balance_hook import TaskBalanceHook
from .throughput_hook import ThroughputHook
from .tokenizer_check_hook import TokenizerCheckHook

__all__ = [
    "DistillationHook",
    "PanelHook",
    "ReconstructionHook",
    "SaveTokenizerHook",
    "TaskBalanceHook",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
