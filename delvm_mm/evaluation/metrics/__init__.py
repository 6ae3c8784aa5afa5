"""Metrics that no toolbox has, in MMEngine's form."""

from delvm_mm.evaluation.metrics.edge_metric import EdgeMetric
from delvm_mm.evaluation.metrics.foreground_iou_metric import FoldIoUMetric, ForegroundIoUMetric
from delvm_mm.evaluation.metrics.instance_metric import InstanceMetric
from delvm_mm.evaluation.metrics.label_perplexity_metric import LabelPerplexityMetric
from delvm_mm.evaluation.metrics.normalized_mse_metric import NormalizedMSEMetric
from delvm_mm.evaluation.metrics.reconstruction_metric import ReconstructionMetric
from delvm_mm.evaluation.metrics.restoration_metric import RestorationMetric
from delvm_mm.evaluation.metrics.token_metric import TokenMetric

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
]
