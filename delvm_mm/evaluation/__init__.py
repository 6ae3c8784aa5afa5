from delvm_mm.evaluation.prompt_evaluator import VisionPromptEvaluator
from delvm_mm.evaluation.reconstruction_metric import ReconstructionMetric
from delvm_mm.evaluation.restoration_metric import RestorationMetric
from delvm_mm.evaluation.token_metric import TokenMetric

__all__ = ["ReconstructionMetric", "RestorationMetric", "TokenMetric", "VisionPromptEvaluator"]
