from delvm_mm.evaluation.edge_metric import EdgeMetric
from delvm_mm.evaluation.foreground_iou_metric import FoldIoUMetric, ForegroundIoUMetric
from delvm_mm.evaluation.instance_metric import InstanceMetric
from delvm_mm.evaluation.label_perplexity_metric import LabelPerplexityMetric
from delvm_mm.evaluation.normalized_mse_metric import NormalizedMSEMetric
from delvm_mm.evaluation.prompt_evaluator import VisionPromptEvaluator
from delvm_mm.evaluation.reconstruction_metric import ReconstructionMetric
from delvm_mm.evaluation.restoration_metric import RestorationMetric
from delvm_mm.evaluation.token_metric import TokenMetric

__all__ = [
    "EdgeMetric",
    "FoldIoUMetric",
    "ForegroundIoUMetric",
    "InstanceMetric",
    "LabelPerplexityMetric",
    "NormalizedMSEMetric",
    "ReconstructionMetric",
    "RestorationMetric",
    "TokenMetric",
    "VisionPromptEvaluator",
]
