"""What a path holds, and the model in it: checkpoint, shards, model folder, Hugging Face export, InternLM parts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from delvm_mm.apis.model_folder import is_model_folder, load_model, read_model_folder
from delvm_mm.apis.model_loading import build_model, find_config
from delvm_mm.checkpoints.sharded import is_sharded
from delvm_mm.checkpoints.weight_folder import is_weight_folder
from delvm_mm.models import DeLVM, delvm_from_huggingface, delvm_from_internlm
from delvm_mm.models.internlm import is_internlm
from delvm_mm.pretrained import resolve_shipped

__all__ = ["KINDS", "Source", "kind_of", "load_source"]

KINDS = {
    "mmengine": "an MMEngine checkpoint",
    "sharded": "a folder of shards that several processes wrote",
    "folder": "a model folder",
    "huggingface": "a Hugging Face export",
    "internlm": "parts of an InternLM checkpoint",
}
"""Kind of a source -> what it is called."""


@dataclass(frozen=True)
class Source:
    """A model that was read.

    Attributes:
        kind: A key of :data:`KINDS`.
        model: In eval mode.
        config: With ``tasks`` and ``size``, where there is one; empty otherwise.
    """

    kind: str
    model: DeLVM
    config: Config


def kind_of(path: str | Path) -> str:
    """What a path holds, a key of :data:`KINDS`; files are not read whole for that.

    Args:
        path: Of a checkpoint or a folder.

    Returns:
        Such as 'mmengine' or 'huggingface'.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: It is a folder of something else.
    """
    path = resolve_shipped(path)
    if path.is_file():
        return "mmengine"
    if not path.is_dir():
        raise FileNotFoundError(f"nothing is at {path}; expected a checkpoint or the folder of a model")
    tests: dict[str, Callable[[Path], bool]] = dict(
        folder=is_model_folder,
        sharded=is_sharded,
        internlm=is_internlm,
        huggingface=lambda folder: (folder / "config.json").is_file() or is_weight_folder(folder),
    )
    for kind, test in tests.items():
        if test(path):
            return kind
    raise ValueError(
        f"{path} is a folder of none of these: {', '.join(name for kind, name in KINDS.items() if kind != 'mmengine')}"
    )


def load_source(
    path: str | Path,
    config: str | None = None,
    tokenizer: Any = None,
    max_positions: int = 2048,
    options: dict[str, Any] | None = None,
) -> Source:
    """Read a model, whatever it is.

    Args:
        path: Of a checkpoint or a folder.
        config: Of a checkpoint: the path of its config, which no weights replace.
        tokenizer: The tokenizer's folder, or its config; see :class:`DeLVM`.
        max_positions: The context of an InternLM checkpoint, in tokens.
        options: Dotted keys and values that override the config's.

    Returns:
        The model, what it was read from, and its config.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, wants to run code, or is of another architecture.
    """
    kind = kind_of(path)
    if kind in ("mmengine", "sharded"):
        if config is None:
            raise ValueError(f"{path} is {KINDS[kind]}, which holds weights alone; give its config, too")
        cfg, weights = find_config(config, str(path), options)
        return Source(kind, build_model(cfg, weights, tokenizer, "cpu"), cfg)
    if config is not None:
        raise ValueError(f"{path} is {KINDS[kind]} and says itself what it is; leave the config out")
    if kind == "folder":
        if tokenizer is not None:
            raise ValueError(f"{path} is a model folder and has its tokenizer; leave the other one out")
        return Source(kind, load_model(path), read_model_folder(path))
    if kind == "internlm":
        return Source(kind, delvm_from_internlm(path, tokenizer, max_positions), Config())
    return Source(kind, delvm_from_huggingface(path, tokenizer), Config())
