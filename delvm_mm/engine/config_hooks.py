"""The hooks that a config names: ours stand in ``default_hooks``, each under a name of its own."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from delvm_mm.registry import type_name

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
        ValueError: If an entry is no config of a hook.
    """
    named = cfg.get("default_hooks")
    if not named:
        return
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
