from .classifier_distillation_hook import ClassifierDistillationHook
from .distillation_hook import DistillationHook
from .panel_hook import PanelHook, ValidationPanelHook
from .save_tokenizer_hook import SaveTokenizerHook
from .soft_causal_hook import SoftCausalHook
from .task_balance_hook import TaskBalanceHook
from .throughput_hook import ThroughputHook
from .tokenizer_check_hook import TokenizerCheckHook

__all__ = [
    "ClassifierDistillationHook",
    "DistillationHook",
    "PanelHook",
    "SaveTokenizerHook",
    "SoftCausalHook",
    "TaskBalanceHook",
    "ThroughputHook",
    "TokenizerCheckHook",
    "ValidationPanelHook",
]
