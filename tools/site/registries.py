"""The pages of registry names and of hooks, from the registries themselves."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import Registry

from delvm_mm import registry as registries
from docstrings import plain_markdown


def own_names() -> Iterator[tuple[str, str, type]]:
    """Registry, name and class of everything that this package registers, in order."""
    for variable, registry in vars(registries).items():
        if not isinstance(registry, Registry):
            continue
        registry.import_from_location()
        for name, cls in sorted(registry.module_dict.items()):
            if cls.__module__.startswith("delvm_mm"):
                yield variable, name, cls


def first_sentence(cls: type) -> str:
    """The first sentence of a docstring, for a cell of a table."""
    text = plain_markdown(inspect.getdoc(cls) or "").split("\n\n")[0]
    return re.split(r"(?<=[.!])\s(?=[A-Z`])", " ".join(text.split()))[0].rstrip(":.").replace("|", "\\|")


def reference(name: str, cls: type) -> str:
    """Link to where the class is documented."""
    return f"[`{name}`][{cls.__module__}.{cls.__qualname__}]"


def registry_page() -> str:
    """Markdown: a table for each registry."""
    lines = [
        "# Registry names",
        "",
        "Everything that a config of this package can name as `type`. In another toolbox's config each takes the "
        "prefix `delvm_mm.`, as in `type='delvm_mm.LLaMA'`; here the names of MMEngine and of the other toolboxes work "
        "too, those of toolboxes with a prefix, as in `type='mmseg.IoUMetric'`. The arguments are the other keys of "
        "the dict.",
    ]
    last = None
    for variable, name, cls in own_names():
        if variable != last:
            lines += ["", f"## {variable}", "", "| `type` | what it is |", "|---|---|"]
            last = variable
        note = "" if name == cls.__name__ else " (an older name)"
        lines.append(f"| {reference(name, cls)}{note} | {first_sentence(cls)} |")
    return "\n".join(lines) + "\n"


def hooks_page(root: Path) -> str:
    """Markdown: every hook with its name in the configs and its arguments."""
    named: dict[str, set[str]] = {}
    for path in sorted((root / "configs").rglob("*.py")):
        hooks = Config.fromfile(str(path)).get("default_hooks") or {}
        for name, hook in hooks.items():
            if hook is not None and isinstance(hook.get("type"), str):
                named.setdefault(hook["type"].rpartition(".")[2], set()).add(name)
    lines = [
        "# Hooks",
        "",
        "A hook of a config has a name in `default_hooks`, by which a derived config or `--cfg-options` changes one of "
        "its arguments: `default_hooks.guard.max_skipped=3`, `default_hooks.memory=None` leaves it out. Where the "
        "second column is empty, no config here has the hook on; give it a name of your choice.",
        "",
        "| hook | name in `default_hooks` | arguments | what it does |",
        "|---|---|---|---|",
    ]
    for variable, name, cls in own_names():
        if variable != "HOOKS" or name != cls.__name__:
            continue
        parameters = [
            f"`{parameter.name}`"
            if parameter.default is parameter.empty
            else f"`{parameter.name}={parameter.default!r}`"
            for parameter in inspect.signature(cls).parameters.values()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        names = ", ".join(f"`{one}`" for one in sorted(named.pop(name, ())))
        cells = [reference(name, cls), names, ", ".join(parameters).replace("|", "\\|"), first_sentence(cls)]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "MMEngine's own, which the configs name too:", "", "| hook | name in `default_hooks` |", "|---|---|"]
    lines += [
        f"| `{hook}` | {', '.join(f'`{one}`' for one in sorted(names))} |" for hook, names in sorted(named.items())
    ]
    return "\n".join(lines) + "\n"
