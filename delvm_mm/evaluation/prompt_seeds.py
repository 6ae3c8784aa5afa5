"""Scores with prompts chosen by several seeds: their mean, and how much they vary with the choice."""

import inspect
import statistics
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from delvm_mm.registry import DATASETS, type_name

__all__ = ["mean_and_spread", "with_prompt_seed"]


def with_prompt_seed(dataset: Mapping[str, Any], seed: int, task: str) -> dict[str, Any]:
    """The config of a task's dataset whose prompts another seed chooses.

    Args:
        dataset: Of a :class:`VisionPromptDataset`, or any that takes a ``seed``, or of one around such a ``dataset``.
        seed: Of the choice.
        task: Its name, for messages.

    Returns:
        A copy.

    Raises:
        ValueError: No seed changes its prompts.
    """
    dataset = deepcopy(dict(dataset))
    if isinstance(dataset.get("dataset"), Mapping):
        dataset["dataset"] = with_prompt_seed(dataset["dataset"], seed, task)
        return dataset
    kind = dataset.get("type")
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    selection = dataset.get("selection")
    if not _takes_seed(kind):
        cause = f"its {type_name(dataset)} takes no seed"
    elif selection == "nearest":
        cause = "selection='nearest' draws nothing"
    elif dataset.get("prompt_indices") is not None:
        cause = "prompt_indices names the pairs"
    else:
        dataset["seed"] = seed
        return dataset
    raise ValueError(f"prompts of task '{task}' are the same with all seeds ({cause}): leave it or the seeds out")


def _takes_seed(kind: Any) -> bool:
    """Whether a class, or one whose constructor takes the rest of its arguments, has an argument ``seed``."""
    own = [vars(base)["__init__"] for base in inspect.getmro(kind) if "__init__" in vars(base)] if kind else []
    return any("seed" in inspect.signature(init).parameters for init in own if inspect.isfunction(init))


def mean_and_spread(of_seeds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Results of several seeds as one.

    Args:
        of_seeds: Seed -> results, such as those of a :class:`VisionPromptEvaluator`.

    Returns:
        Means of all numbers under their names; ``spread``: their standard deviations (of a sample, n - 1), 0 of one
        seed; ``seeds``: all that was given. What is no number is that of the first seed.
    """
    first: Mapping[str, Any] = next(iter(of_seeds.values()))
    numbers = [key for key, value in first.items() if isinstance(value, int | float) and not isinstance(value, bool)]
    values: dict[str, Sequence[float]] = {key: [results[key] for results in of_seeds.values()] for key in numbers}
    return {
        **first,
        **{key: statistics.fmean(values[key]) for key in numbers},
        "spread": {key: statistics.stdev(values[key]) if len(of_seeds) > 1 else 0.0 for key in numbers},
        "seeds": {seed: dict(results) for seed, results in of_seeds.items()},
    }
