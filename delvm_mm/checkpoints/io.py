"""Read weight files without running code from them, and put them into a module with readable errors.

``load_state_dict`` reads ``.bin``, ``.pt``, ``.pth`` and ``.safetensors`` files, ``load_into`` fills a module, and
``load_checkpoint`` returns everything that a file holds (what resuming from an MMEngine checkpoint needs).
Pickles are read with ``weights_only`` on and never in any other way.
"""

import contextlib
import importlib
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from delvm_mm.checkpoints.weight_folder import is_weight_folder, weight_files
from delvm_mm.pretrained import resolve_shipped

CONFIG_SUFFIXES = (".py", ".json", ".yaml", ".yml")
_MAX_KEYS_SHOWN = 5
_GLOBAL_IN_MESSAGE = re.compile(r"(?:GLOBAL|[Uu]nsupported class|unrecognized function) ([^\s,]+)")


def load_state_dict(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """Read the weights in a file; a checkpoint of MMEngine is unwrapped.

    Args:
        path: A ``.safetensors`` file, any name for what ``torch.save`` wrote, or a folder, see
            :func:`load_checkpoint`.
        prefix: Only keys that start with this are kept, without it; ``'vqgan.'`` picks one part of a larger model.

    Returns:
        Names and tensors, on the CPU. Tensors of a large file may be memory-mapped, so copy what you keep.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, holds no weights, wants to run code, or has no key with the prefix.
    """
    path = Path(path)
    content = load_checkpoint(path)
    weights = content.get("state_dict", content)
    if not isinstance(weights, dict) or not weights:
        raise ValueError(f"{path} holds no weights: its 'state_dict' is {_kind(weights)}")
    stray = [name for name, value in weights.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if stray:
        raise ValueError(
            f"{path} is not a file of weights: expected names with tensors (or those under 'state_dict'), "
            f"but {stray[0]!r} is {_kind(weights[stray[0]])}. Give the file that holds the weights"
        )
    if prefix:
        chosen = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
        if not chosen:
            raise ValueError(f"{path} has no weights that start with {prefix!r}; its names look like {_some(weights)}")
        return chosen
    return dict(weights)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read everything in a file, with ``weights_only`` on.

    Besides tensors and plain Python values, numpy arrays and MMEngine's ``HistoryBuffer`` are allowed, which is what
    ``mmengine.runner.Runner`` saves.

    Args:
        path: A ``.safetensors`` file, any name for what ``torch.save`` wrote, a folder of shards that
            ``ShardedCheckpointHook`` wrote, or one with ``model.safetensors`` or ``pytorch_model.bin``, whole or in
            shards with an index: a model folder, or a Hugging Face export.

    Returns:
        The dict in the file, tensors on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, no checkpoint but a config, or wants to run code.
    """
    path = resolve_shipped(path)
    if path.is_dir():
        from delvm_mm.checkpoints.sharded import (  # takes a moment to import, and is rarely needed
            REST,
            is_sharded,
            read_whole,
        )

        if is_sharded(path):
            return read_whole(path, load_checkpoint(path / REST))
        if is_weight_folder(path):
            return _load_weight_folder(path)
        raise ValueError(f"{path} is a folder without weights; give a weight file, for example pytorch_model.bin")
    if not path.is_file():
        raise FileNotFoundError(f"No weight file at {path}. Check the path, or download the file first")
    if path.suffix in CONFIG_SUFFIXES:
        raise ValueError(f"{path} is a config, where a checkpoint is expected: give its weights, such as iter_1000.pth")
    _refuse_git_lfs_pointer(path)
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a checkpoint: expected a dict of weights, it holds {_kind(content)}")
    return content


def load_into(module: nn.Module, state_dict: dict[str, Tensor], source: str | Path, strict: bool = True) -> None:
    """Copy weights into a module; nothing is copied where they do not fit.

    Args:
        module: What to fill.
        state_dict: Names and tensors.
        source: Where the weights are from, for the message.
        strict: Also refuse missing and unexpected names. Shapes must fit in any case.

    Raises:
        ValueError: The weights do not fit; the message has the first names of each kind, counts and shapes.
    """
    check_fits(module, state_dict, source, strict)
    module.load_state_dict(state_dict, strict=False)


def check_fits(module: nn.Module, state_dict: dict[str, Tensor], source: str | Path, strict: bool = True) -> None:
    """Refuse weights that :func:`load_into` would refuse, copying none; only their names and shapes are read.

    Raises:
        ValueError: As :func:`load_into`.
    """
    own = module.state_dict()
    shapes = [
        f"{name}: {tuple(state_dict[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in own.items()
        if name in state_dict and isinstance(value, Tensor) and state_dict[name].shape != value.shape
    ]
    problems = []
    if strict:
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        if missing:
            problems.append(f"{len(missing)} missing in the file ({_some(missing)})")
        if unexpected:
            problems.append(f"{len(unexpected)} unexpected in the file ({_some(unexpected)})")
    if shapes:
        problems.append(f"{len(shapes)} with another shape ({_some(shapes, '; ')})")
    if problems:
        raise ValueError(
            f"The weights in {source} do not fit {type(module).__name__} ({len(own)} names in the model, "
            f"{len(state_dict)} in the file): " + "; ".join(problems) + ". Check that the config belongs to the file."
        )


def _load_weight_folder(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for file, names in weight_files(folder).items():
        part = load_state_dict(file)
        if lost := [name for name in names or () if name not in part]:
            raise ValueError(f"{file} lacks {_some(lost)}, which the index of {folder} says are in it; copy it again")
        weights |= part
    return weights


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f"Reading {path} needs the package safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except Exception as error:  # SafetensorError is not a subclass of anything narrower
        raise ValueError(f"{path} is damaged or not a safetensors file ({_reason(error)}). Copy it again") from error


def _load_pickle(path: Path) -> Any:
    # Only zip archives can be mapped into memory; older files are read whole.
    name = os.fsencode(path)
    is_utf8 = name.decode(errors="replace").encode() == name  # others torch opens as files only
    options = {"mmap": True} if is_utf8 and zipfile.is_zipfile(path) else {}
    try:
        with _mmengine_globals_allowed(), contextlib.nullcontext(path) if is_utf8 else path.open("rb") as source:
            return torch.load(source, map_location="cpu", weights_only=True, **options)
    except Exception as error:  # torch raises many kinds for damaged files: RuntimeError, EOFError, KeyError, ...
        refused = _GLOBAL_IN_MESSAGE.search(str(error))
        if refused or (isinstance(error, pickle.UnpicklingError) and _is_pickle(path)):
            wants = refused.group(1).strip("<>`") if refused else f"more than weights ({_reason(error)})"
            raise ValueError(
                f"{path} was refused, nothing in it was executed: it is a pickle that wants to run or build {wants}. "
                "Ask its author for plain weights or a .safetensors file"
            ) from error
        raise ValueError(
            f"{path} is damaged, cut short or not a file of weights ({_reason(error)}). Copy or download it again"
        ) from error


def _history_method(owner: type, name: str) -> Callable:
    """What ``getattr`` may do in a checkpoint: name a statistic of ``HistoryBuffer``, which MMEngine saves with it."""
    if owner is not HistoryBuffer or name not in ("mean", "max", "min", "current"):
        raise pickle.UnpicklingError(f"Unsupported global: GLOBAL getattr({owner}, {name!r})")
    return getattr(HistoryBuffer, name)


def _named_as(function: Callable, module: str, name: str) -> Callable:
    """A function that the unpickler takes for ``module.name``: numpy moved these between its versions."""

    def call(*args: Any) -> Any:
        return function(*args)

    call.__module__, call.__name__, call.__qualname__ = module, name, name
    return call


def _safe_globals() -> Iterator[Any]:
    # Late numpy 1 has a numpy._core too, an almost empty one that only helps to read numpy 2's pickles.
    core = importlib.import_module(
        "numpy.core.multiarray" if np.__version__.startswith("1.") else "numpy._core.multiarray"
    )
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        yield _named_as(core._reconstruct, module, "_reconstruct")
        yield _named_as(core.scalar, module, "scalar")
    yield from (np.ndarray, np.dtype, HistoryBuffer)
    yield from {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdFDSU"} - {np.dtype}
    yield _named_as(_history_method, "builtins", "getattr")
    # Checkpoints of Lightning before 1.5 name this class as a key; an empty one of that name does.
    yield type("ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"})


def _mmengine_globals_allowed() -> contextlib.AbstractContextManager:
    # Before torch 2.5 nothing can be allowed for one call only; plain weights load there, others are refused.
    allow = getattr(torch.serialization, "safe_globals", None)
    return allow(list(_safe_globals())) if allow else contextlib.nullcontext()


def _refuse_git_lfs_pointer(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(24).startswith(b"version https://git-lfs"):
            raise ValueError(f"{path} is a Git LFS pointer, not the weights; run 'git lfs pull' where it came from")


def _kind(value: Any) -> str:
    return "an empty dict" if isinstance(value, dict) and not value else f"a {type(value).__name__}"


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return zipfile.is_zipfile(path) or file.read(1) == pickle.PROTO


def _reason(error: Exception) -> str:
    """What went wrong, in one line and without torch's advice to switch ``weights_only`` off."""
    text = str(error).strip().rpartition("WeightsUnpickler error:")[2].strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__


def _some(names: Any, separator: str = ", ") -> str:
    names = [str(name) for name in names]
    more = f"{separator}... and {len(names) - _MAX_KEYS_SHOWN} more" if len(names) > _MAX_KEYS_SHOWN else ""
    return separator.join(names[:_MAX_KEYS_SHOWN]) + more
