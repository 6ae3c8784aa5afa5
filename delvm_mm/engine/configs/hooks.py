"""The hooks that a config names: ours stand in ``default_hooks``, each under a name of its own."""

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from delvm_mm.registry import HOOKS, MODELS, type_name

MMENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
"""Entries of ``default_hooks`` that MMEngine fills in itself, and takes None for."""


def hooks_of(cfg: Mapping[str, Any]) -> Iterator[Any]:
    """The configs of all hooks, named ones first."""
    yield from (hook for hook in (cfg.get("default_hooks") or {}).values() if hook is not None)
    yield from cfg.get("custom_hooks") or []


def settle_hooks(cfg: Config, path: str) -> None:
    """Make ``default_hooks`` what MMEngine accepts.

    An entry that is None is left out. A hook of ``custom_hooks`` replaces the named one of its type: configs from
    before hooks had names list all of them there.

    Args:
        cfg: A config that is complete.
        path: Where it is from, for messages.

    Raises:
        ValueError: If an entry is no config of a hook, or has an argument that the hook does not know.
    """
    named = cfg.get("default_hooks") or {}
    listed = {type_name(hook) for hook in cfg.get("custom_hooks") or [] if isinstance(hook, Mapping)}
    for name, hook in list(named.items()):
        if name in MMENGINE_HOOKS:
            continue
        if hook is None or (isinstance(hook, Mapping) and type_name(hook) in listed):
            del named[name]
        elif isinstance(hook, Mapping) and "type" not in hook:
            close = difflib.get_close_matches(name, [*MMENGINE_HOOKS, *(set(named) - {name})], n=1)
            meant = f"did you mean '{close[0]}'?" if close else f"a new one needs its type; it has {list(named)}"
            raise ValueError(f"{path}: default_hooks has no hook '{name}'; {meant}")
    for hook in hooks_of(cfg):
        if isinstance(hook, Mapping):
            _check_arguments(hook, path)


def _check_arguments(hook: Mapping[str, Any], path: str) -> None:
    """Refuse what a hook would take now and fail on later, at its first checkpoint."""
    cls = _class_of(hook.get("type"), HOOKS)
    known = None if cls is None else _arguments(cls)
    if known is None:
        return
    if cls.__name__ == "EMAHook":  # the others are those of the averaged model
        averaged = _class_of(hook.get("ema_type", "ExponentialMovingAverage"), MODELS)
        of_model = None if averaged is None else _arguments(averaged)
        if of_model is None:
            return
        known |= of_model - {"model"}
    for name in hook:
        if name not in known | {"type", "priority"}:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean '{close[0]}'?" if close else f"it has {sorted(known) or 'none'}"
            raise ValueError(f"{path}: {cls.__name__} has no argument '{name}'; {meant}")


def _class_of(kind: Any, registry: Any) -> type | None:
    cls = registry.get(kind) if isinstance(kind, str) else kind
    return cls if isinstance(cls, type) else None


def _arguments(cls: type) -> set[str] | None:
    """Names of the arguments of a class; None where a class of somebody else takes any."""
    names: set[str] = set()
    for owner in cls.__mro__[:-1]:
        if "__init__" not in vars(owner):
            continue
        parameters = list(inspect.signature(owner.__init__).parameters.values())[1:]
        names |= {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        if all(one.kind != one.VAR_KEYWORD for one in parameters):
            return names
        if owner.__module__.split(".")[0] not in ("mmengine", "delvm_mm"):
            return None
    return names
