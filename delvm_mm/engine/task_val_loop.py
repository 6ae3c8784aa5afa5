"""Scores of a config's tasks while it trains: :class:`TaskValLoop`."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, ValLoop, autocast
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from delvm_mm.datasets.seeded_clips import unchanged_random_states
from delvm_mm.engine.fully_sharded import is_fully_sharded
from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.registry import DATASETS, EVALUATOR, LOOPS, type_name


@LOOPS.register_module()
class TaskValLoop(ValLoop):
    """MMEngine's ``ValLoop``, and then the tasks of the config: the model answers some queries of each and is scored.

    Scores are logged as those of the validation are, as ``val/seg/mIoU``, ``val/pose/PCK`` or
    ``val/derain/restoration/PSNR``, and ``save_best`` of the checkpoint hook takes their names without ``val/``. They
    are of the toolboxes' metrics, on the images that the model draws; tokenizer ceiling and trivial answers, which
    training does not change, are left to ``delvm test``. Processes share the queries. Whatever is drawn at random
    meanwhile does not change the training, which goes on bit for bit as it would have without.

    Args:
        runner: Whose loop it is.
        dataloader: Of the validation that goes before.
        evaluator: Of the validation that goes before.
        fp16: As for :class:`mmengine.runner.ValLoop`.
        num_queries: Queries of each task, spread evenly over all it has, always the same; None takes all.
        tasks: Names of tasks of the config, by default all it has; or task -> ``dict(dataloader=..., evaluator=...)``.

    Raises:
        ValueError: There are no tasks, one is not known, ``num_queries`` is below 1, or the model is one in shards.

    Examples:
        >>> val_cfg = dict(type='TaskValLoop', num_queries=50)
        >>> default_hooks = dict(checkpoint=dict(save_best='seg/mIoU', rule='greater'))
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict | DataLoader,
        evaluator: dict | list | Evaluator,
        fp16: bool = False,
        num_queries: int | None = 50,
        tasks: Sequence[str] | Mapping[str, Any] | None = None,
    ) -> None:
        if num_queries is not None and (isinstance(num_queries, bool) or num_queries < 1):
            raise ValueError(f"TaskValLoop.num_queries is {num_queries!r}, expected 1 or more, or None for all")
        if is_fully_sharded(runner.model):
            raise ValueError(
                "TaskValLoop answers queries in each process, and of a FullyShardedDeLVM none holds the whole model: "
                "take val_cfg=dict(type='ValLoop') and score checkpoints with delvm test"
            )
        super().__init__(runner, dataloader, evaluator, fp16)
        if not isinstance(tasks, Mapping):
            tasks = choose_tasks(runner.cfg.get("tasks"), tasks, "TaskValLoop.tasks: the config")
        with unchanged_random_states():
            # Now: what is wrong with them should not wait for the first validation.
            self.tasks = {task: self._build(task, cfg, num_queries) for task, cfg in tasks.items()}
        self._settings = tasks
        self.evaluator = _Joined(self.evaluator, self._score_tasks)

    def _build(self, task: str, cfg: Mapping[str, Any], num_queries: int | None) -> tuple[DataLoader, Evaluator]:
        dataset = DATASETS.build(cfg["dataloader"]["dataset"])
        evaluator = {"prefix": task, **cfg["evaluator"]}
        if type_name(evaluator) == "VisionPromptEvaluator":
            evaluator.update(ceiling=False, trivial=False)
        evaluator = EVALUATOR.build(evaluator)
        evaluator.dataset_meta = getattr(dataset, "metainfo", None)
        loader = dict(cfg["dataloader"], dataset=_some_of(dataset, num_queries))
        return self.runner.build_dataloader(loader), evaluator

    @torch.no_grad()
    def _score_tasks(self) -> dict[str, float]:
        scores = {}
        with unchanged_random_states():
            for task, (loader, evaluator) in self.tasks.items():
                for batch in loader:
                    with autocast(enabled=self.fp16), sampling_of(self.runner.model, self._settings[task]):
                        answers = self.runner.model.val_step(batch)
                    evaluator.process(data_samples=answers, data_batch=batch)
                scores.update(evaluator.evaluate(len(loader.dataset)))
        return scores


class _Joined:
    """An evaluator whose result has further scores beside its own."""

    def __init__(self, evaluator: Evaluator, more: Any) -> None:
        self._evaluator, self._more = evaluator, more

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluator, name)

    def evaluate(self, size: int) -> dict[str, float]:
        """Its own result of ``size`` samples, and the others."""
        return {**self._evaluator.evaluate(size), **self._more()}


def tasks_of(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks of a config by name: its ``tasks``, or all ``<name>_task`` of a file such as those in configs/protocols/.

    Returns:
        None where the config has neither.
    """
    suffix = "_task"
    return dict(cfg.get("tasks") or {key.removesuffix(suffix): cfg[key] for key in cfg if key.endswith(suffix)})


def choose_tasks(tasks: Mapping[str, Any] | None, names: Sequence[str] | None, source: str) -> dict[str, Any]:
    """Tasks of a config by their names.

    Args:
        tasks: ``tasks`` of the config: name -> ``dict(dataloader=..., evaluator=...)``.
        names: Those to choose; None or none for all.
        source: Where the names were given and which config has the tasks, for the message.

    Returns:
        The chosen ones, in the order of ``names``.

    Raises:
        ValueError: If there are no tasks or a name is none of them.
    """
    if not tasks:
        raise ValueError("the config defines no tasks; add tasks=dict(...) as in configs/_base_/tasks/")
    names = [names] if isinstance(names, str) else names
    if unknown := set(names or ()) - set(tasks):
        raise ValueError(f"{source} has no task {sorted(unknown)}, it has {list(tasks)}")
    return {name: tasks[name] for name in names or tasks}


def sampling_of(model: nn.Module, task: Mapping[str, Any]) -> AbstractContextManager:
    """Answer as a task's ``sampler`` and ``ensemble`` say, such as ``dict(temperature=0)``, or else as the model does.

    Args:
        model: A :class:`DeLVM`, or what wraps one.
        task: An entry of a config's ``tasks``.

    Returns:
        A context; outside of it the model answers as before.
    """
    sampler, ensemble = task.get("sampler"), task.get("ensemble")
    return unwrap_model(model).sampling(sampler, ensemble) if sampler or ensemble else nullcontext()


def _some_of(dataset: Dataset, number: int | None) -> Dataset:
    """``number`` samples of a data set, spread evenly, or all."""
    if number is None or number >= len(dataset):
        return dataset
    return Subset(dataset, np.linspace(0, len(dataset) - 1, number).round().astype(int).tolist())
