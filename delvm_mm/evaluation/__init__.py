"""Scores: metrics, the evaluator that reads answers back, ceilings and trivial answers."""

from delvm_mm.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "metrics.edge_metric": ["EdgeMetric"],
        "metrics.foreground_iou_metric": ["FoldIoUMetric", "ForegroundIoUMetric"],
        "metrics.instance_metric": ["InstanceMetric"],
        "metrics.label_perplexity_metric": ["LabelPerplexityMetric"],
        "metrics.normalized_mse_metric": ["NormalizedMSEMetric"],
        "metrics.reconstruction_metric": ["ReconstructionMetric"],
        "metrics.restoration_metric": ["RestorationMetric"],
        "metrics.token_metric": ["TokenMetric"],
        "prompt_evaluator": ["VisionPromptEvaluator"],
    },
)
