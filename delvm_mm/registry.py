"""Registries of scope ``delvm_mm``, children of MMEngine's.

``default_scope = 'delvm_mm'`` in a config is enough to use them: MMEngine imports this module by the name of
the scope, and the locations below when a registry is first asked for a name.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import EVALUATOR as MMENGINE_EVALUATOR
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope="delvm_mm", locations=[f"delvm_mm.{place}" for place in locations])


DATASETS = _child("dataset", MMENGINE_DATASETS, "datasets")
DATA_SAMPLERS = _child("data sampler", MMENGINE_DATA_SAMPLERS, "datasets")
TRANSFORMS = _child("transform", MMENGINE_TRANSFORMS, "datasets.transforms")
MODELS = _child("model", MMENGINE_MODELS, "models")
TASK_UTILS = _child("task util", MMENGINE_TASK_UTILS, "codecs", "generation")
METRICS = _child("metric", MMENGINE_METRICS, "evaluation")
EVALUATOR = _child("evaluator", MMENGINE_EVALUATOR, "evaluation")
HOOKS = _child("hook", MMENGINE_HOOKS, "engine.hooks")
OPTIM_WRAPPERS = _child("optimizer wrapper", MMENGINE_OPTIM_WRAPPERS, "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child("optimizer wrapper constructor", MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, "engine")
MODEL_WRAPPERS = _child("model wrapper", MMENGINE_MODEL_WRAPPERS, "engine")
VISUALIZERS = _child("visualizer", MMENGINE_VISUALIZERS, "visualization")
