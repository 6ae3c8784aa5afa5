"""Weights that the package carries, named ``delvm_mm://<folder>`` wherever a checkpoint folder is expected."""

import re
from pathlib import Path

__all__ = ["resolve_shipped", "shipped_names"]

FOLDER = Path(__file__).resolve().parent
# One slash is what pathlib leaves of two.
_NAME = re.compile(r"delvm_mm:/{1,2}(.*)", re.DOTALL)


def shipped_names() -> list[str]:
    """Names of all folders that the package carries, as :func:`resolve_shipped` takes them."""
    return [f"delvm_mm://{config.parent.name}" for config in sorted(FOLDER.glob("*/config.json"))]


def resolve_shipped(path: str | Path) -> Path:
    """The folder behind a name such as ``'delvm_mm://mini_tokenizer'``; any other path is given back.

    Args:
        path: A path, or a name of :func:`shipped_names`.

    Returns:
        A path, which need not exist if it is not of the package.

    Raises:
        FileNotFoundError: The package carries no such folder.
    """
    found = _NAME.fullmatch(str(path))
    if found is None:
        return Path(path)
    if f"delvm_mm://{found[1]}" not in shipped_names():
        raise FileNotFoundError(
            f"the package carries no 'delvm_mm://{found[1]}'; it has {', '.join(shipped_names()) or 'none'}. "
            "Other checkpoints are named by the path of their folder"
        )
    return FOLDER / found[1]
