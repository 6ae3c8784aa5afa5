"""Where schedules stand at a step, without having made the steps before it, and what has changed in them."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

# What a scheduler counts and finds out while it runs; all else of its state follows from the config.
RUNNING = (
    *("last_step", "_global_step", "_last_value", "verbose"),
    *("best", "num_bad_epochs", "cooldown_counter"),  # of ReduceOnPlateau
)
SETTINGS = ("lr", "weight_decay", "betas", "momentum", "eps")
"""Settings of an optimizer's groups that stay through a run, unless a schedule moves them."""

Groups = list[dict[str, Any]]


class _Groups:
    """As much of an optimizer as a scheduler looks at, with copies of its groups."""

    def __init__(self, groups: Sequence[Mapping[str, Any]]) -> None:
        self.param_groups = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        self._global_step = 1

    def step(self) -> None:
        """Count nothing; schedulers want to see that they count steps."""

    step._with_counter = True


def replay(schedulers: Sequence[Any], groups: Sequence[Mapping[str, Any]], iters: int, epochs: int) -> tuple:
    """Step copies of new schedulers to where a run is; their values follow from the ones before.

    Args:
        schedulers: Of one optimizer, in their order, as they were built.
        groups: The optimizer's, as the schedulers have left them.
        iters: Steps that were made.
        epochs: Epochs that were made; those by epoch are stepped at the ends of as many equal parts.

    Returns:
        The copies, and copies of the groups without their parameters.
    """
    optimizer = _Groups(groups)
    copies = [copy.copy(scheduler) for scheduler in schedulers]
    for scheduler in copies:
        scheduler.optimizer = optimizer
    by_iter = [scheduler for scheduler in copies if not scheduler.by_epoch]
    by_epoch = [scheduler for scheduler in copies if scheduler.by_epoch]
    done = 0
    for epoch in range(1, epochs + 2):
        until = iters * epoch // epochs if epoch <= epochs else iters
        for _ in range(until - done):
            for scheduler in by_iter:
                scheduler.step()
        done = until
        if epoch <= epochs:
            for scheduler in by_epoch:
                scheduler.step()
    return copies, optimizer.param_groups


def changes_of(schedulers: Sequence[Any], saved: Sequence[Mapping[str, Any]]) -> list[str]:
    """What differs between new schedulers and those of a checkpoint, a phrase each; nothing where they agree.

    Args:
        schedulers: Of one optimizer, as they were built.
        saved: State of those of the checkpoint.

    Returns:
        Phrases for a message.
    """
    found = []
    if len(schedulers) != len(saved):
        found.append(f"{len(schedulers)} schedulers in place of {len(saved)}")
    for scheduler, before in zip(schedulers, saved, strict=False):
        now = {key: value for key, value in scheduler.state_dict().items() if key not in RUNNING}
        before = {key: value for key, value in before.items() if key not in RUNNING}
        name = type(scheduler).__name__
        if now.keys() != before.keys():
            found.append(f"{name} in place of another kind")
            continue
        for key, value in now.items():
            if not _same(value, before[key]):
                found.append(f"{name}.{key} {_short(before[key])} -> {_short(value)}")
    return found


def take_schedule(saved: Groups, replayed: Groups, schedulers: Sequence[Any]) -> None:
    """Put what schedulers have set in groups into the groups of a checkpoint."""
    for name in {scheduler.param_name for scheduler in schedulers}:
        for group, now in zip(saved, replayed, strict=False):
            moved = [key for key in now if key == name or key.endswith(f"_{name}")]
            moved += ["betas"] if name == "momentum" and "betas" in now else []
            group.update({key: now[key] for key in moved})


def take_settings(saved: Groups, new: Sequence[Mapping[str, Any]]) -> list[str]:
    """Put settings that no schedule moves into the groups of a checkpoint.

    Returns:
        What has changed, a phrase each.
    """
    found = []
    for group, now in zip(saved, new, strict=False):
        for key in SETTINGS:
            moved = f"initial_{key}" in now or (key == "betas" and "initial_momentum" in now)
            if not moved and key in now and key in group and not _same(now[key], group[key]):
                found.append(f"{key} {_short(group[key])} -> {_short(now[key])}")
                group[key] = now[key]
    return list(dict.fromkeys(found))


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(_same, value, other))
    return bool(value == other)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple) and value and all(_same(each, value[0]) for each in value):
        value = value[0]
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
