from delvm_mm.evaluation.foreground_iou_metric import ForegroundIoUMetric
from delvm_mm.evaluation.prompt_evaluator import VisionPromptEvaluator
from delvm_mm.evaluation.reconstruction_metric import ReconstructionMetric
from delvm_mm.evaluation.restoration_metric import RestorationMetric
from delvm_mm.evaluation.token_metric import TokenMetric

__all__ = ["ForegroundIoUMetric", "ReconstructionMetric", "RestorationMetric", "TokenMetric", "VisionPromptEvaluator"]
