"""Registries of scope ``delvm_mm``, children of MMEngine's.

``default_scope = 'delvm_mm'`` in a config is enough to use them: MMEngine imports this module by the name of
the scope, and the locations below when a registry is first asked for a name. Registries without anything of this
package have a child too: where there is none, MMEngine warns that it cannot find the scope.
"""

from collections.abc import Mapping
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(
        parent.name, parent=parent, scope="delvm_mm", locations=[f"delvm_mm.{place}" for place in locations]
    )


DATASETS = _child(root.DATASETS, "datasets")
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, "datasets")
TRANSFORMS = _child(root.TRANSFORMS, "datasets.transforms")
MODELS = _child(root.MODELS, "models")
TASK_UTILS = _child(
    root.TASK_UTILS,
    "codecs.box",
    "codecs.depth",
    "codecs.masks.color_mask",
    "codecs.masks.mask",
    "codecs.masks.semantic_mask",
    "codecs.restoration",
    "codecs.skeletons.keypoint_discs",
    "codecs.skeletons.skeleton",
    "codecs.squashed",
    "datasets.image_features",
    "generation.samplers",
)
METRICS = _child(root.METRICS, "evaluation.metrics")
EVALUATOR = _child(root.EVALUATOR, "evaluation.prompt_evaluator")
HOOKS = _child(root.HOOKS, "engine.hooks")
LOG_PROCESSORS = _child(root.LOG_PROCESSORS, "engine.reports.log_processor")
LOOPS = _child(root.LOOPS, "engine.loops", "engine.task_val_loop")
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS, "engine.fully_sharded", "engine.self_averaging_model")
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, "engine.optimizers.autocast_optim_wrapper")
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    root.OPTIM_WRAPPER_CONSTRUCTORS, "engine.optimizers.multi_optim_wrapper", "engine.optimizers.optim_constructor"
)

FUNCTIONS = _child(root.FUNCTIONS)
INFERENCERS = _child(root.INFERENCERS)
OPTIMIZERS = _child(root.OPTIMIZERS)
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS)
RUNNERS = _child(root.RUNNERS)
RUNNER_CONSTRUCTORS = _child(root.RUNNER_CONSTRUCTORS)
STRATEGIES = _child(root.STRATEGIES)
VISBACKENDS = _child(root.VISBACKENDS)
VISUALIZERS = _child(root.VISUALIZERS)
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS)


def type_name(cfg: Mapping[str, Any] | type | str | None) -> str:
    """The registered name of a config's ``type``, without scope or module: it may be a name or the class itself.

    Args:
        cfg: A config, or the value of its ``type``.

    Returns:
        '' where there is no type.
    """
    kind = cfg.get("type") if isinstance(cfg, Mapping) else cfg
    if kind is None:
        return ""
    return kind.rpartition(".")[2] if isinstance(kind, str) else getattr(kind, "__name__", type(kind).__name__)
