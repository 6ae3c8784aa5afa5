"""Metrics of the toolboxes from their configs, and what keeps them quiet and to themselves."""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy

from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub, MMLogger

from delvm_mm.registry import METRICS
from delvm_mm.toolboxes import DISTRIBUTIONS, require_toolbox

# Modules that register a toolbox's metrics. With upstream's packages mmseg.datasets and mmseg.models want compiled ops;
# these do not.
METRIC_MODULES = {
    "mmseg": "mmseg.evaluation",
    "mmpose": "mmpose.evaluation.metrics",
    "mmpretrain": "mmpretrain.evaluation",
}


def build_metric(metric: dict | BaseMetric, own: bool = False) -> BaseMetric:
    """Build a metric from its config; take one that is built as it is, or copy it where it has to be our own."""
    if not isinstance(metric, dict):
        return deepcopy(metric) if own else metric
    if own:  # files that a metric writes are of the predictions
        metric = {key: value for key, value in metric.items() if key not in ("output_dir", "outfile_prefix")}
    scope = metric["type"].partition(".")[0] if isinstance(metric.get("type"), str) else ""
    if metric.get("ann_file"):
        raise ValueError(
            f"metric {metric['type']} has ann_file={metric['ann_file']!r}, which is of the images before they were "
            "cropped and resized: leave it out, the truth is that of the images that were drawn"
        )
    if scope in DISTRIBUTIONS:
        # A registry only says that the name is unknown where the toolbox is missing or does not import.
        require_toolbox(METRIC_MODULES.get(scope, scope))
    return METRICS.build(metric)


@contextmanager
def no_annotation_files() -> Iterator[None]:
    """Hide what mmpose's data sets leave in the MessageHub for its CocoMetric: their annotation file.

    It is of the images as they lie on disk, with their ids; what is scored here was cropped and resized, and each
    sample brings its own truth.
    """
    infos = MessageHub.get_current_instance().runtime_info
    hidden = {key: infos.pop(key) for key in [*infos] if key.endswith("_ann_file")}
    try:
        yield
    finally:
        infos.update(hidden)


def differing_arguments(metrics: Sequence[dict | BaseMetric]) -> list[str]:
    """Of each metric the arguments in which it differs from others of its type, such as 'thr=0.1'."""
    shown = []
    for metric in metrics:
        others = [other for other in metrics if isinstance(metric, dict) and isinstance(other, dict)]
        others = [other for other in others if other.get("type") == metric.get("type")]
        keys = dict.fromkeys(key for other in others for key in other)
        differing = [key for key in keys if len({repr(other.get(key)) for other in others}) > 1]
        shown.append(", ".join(f"{key}={metric[key]}" for key in differing if key in metric))
    return shown


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the tables that toolboxes print out of the log."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):  # pycocotools prints
            yield
    finally:
        logger.setLevel(level)
