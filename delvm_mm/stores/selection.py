"""Which stores of a config are meant."""

from collections.abc import Sequence
from pathlib import Path


def select_stores(folders: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """Those folders that are named, whole or by how their paths end; all if there are no names.

    Args:
        folders: Folders of the config's stores.
        names: What ``--stores`` was given, such as ``train/seg``.

    Returns:
        Some of ``folders``, in their order.

    Raises:
        ValueError: A name is that of none.
    """
    if names is None:
        return list(folders)
    chosen = []
    for name in names:
        parts = Path(name).parts
        found = [folder for folder in folders if Path(folder).parts[-len(parts) :] == parts]
        if not parts or not found:
            raise ValueError(f"--stores: there is no {name!r} in the config, which has {list(folders)}")
        chosen += found
    return list(dict.fromkeys(chosen))
