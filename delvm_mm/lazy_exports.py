"""Packages whose public names are imported when they are asked for (PEP 562).

A package that imports all its modules at once makes each of them as slow as the slowest.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Let a package offer names of its modules without importing them.

    Args:
        package: ``__name__`` of the package.
        names: Module below the package, such as 'hooks.panel_hook' -> public names in it.

    Returns:
        The package's ``__all__``, ``__getattr__`` and ``__dir__``.

    Example:
        >>> __all__, __getattr__, __dir__ = lazy_exports(__name__, {"loops": ["AccumulatingTrainLoop"]})
    """
    places = {name: f"{package}.{module}" for module, public in names.items() for name in public}

    def getattr_of_package(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(places[name]), name)

    return sorted(places), getattr_of_package, lambda: sorted(places)
