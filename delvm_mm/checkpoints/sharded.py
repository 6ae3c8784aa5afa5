"""Checkpoints as folders: every process writes its shards, one process or any number of them read the whole.

A folder holds what ``torch.distributed.checkpoint`` writes (``.metadata`` and one ``.distcp`` file a process, tensors
only) and ``rest.pth``, everything else of an MMEngine checkpoint. The names of tensors are ``model/<name>`` and
``optimizer/<number of the parameter>/<name>``. Nothing in a folder is executed when it is read.
"""

import collections
import io
import os
import pathlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import metadata as dcp_metadata

REST = "rest.pth"
MODEL, OPTIMIZER = "model/", "optimizer/"


def is_sharded(path: str | Path) -> bool:
    """Whether a path is a folder of shards, complete or not."""
    return os.path.isdir(path) and any(os.path.exists(os.path.join(path, name)) for name in (".metadata", REST))


def tensors_of(model_state: dict[str, Tensor], optimizer_state: dict[int, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Weights and optimizer state as one flat dict, by the names that a folder uses."""
    flat = {MODEL + name: value for name, value in model_state.items()}
    for number, values in optimizer_state.items():
        flat.update({f"{OPTIMIZER}{number}/{name}": value for name, value in values.items()})
    return flat


def with_tensors(rest: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """An MMEngine checkpoint from the contents of ``rest.pth`` and a flat dict; the inverse of :func:`tensors_of`."""
    model_state: dict[str, Tensor] = {}
    optimizer_state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(MODEL):
            model_state[key.removeprefix(MODEL)] = value
        else:
            number, _, name = key.removeprefix(OPTIMIZER).partition("/")
            optimizer_state.setdefault(int(number), {})[name] = value
    checkpoint = dict(rest, state_dict=model_state)
    if "optimizer" in rest:
        checkpoint["optimizer"] = dict(rest["optimizer"], state=optimizer_state)
    return checkpoint


def write_tensors(folder: str | Path, tensors: dict[str, Tensor]) -> None:
    """Write the shards of this process; every process of the group must call it.

    Raises:
        OSError: A process could not write its shards.
    """
    try:
        dcp.save(tensors, storage_writer=dcp.FileSystemWriter(folder))
    except dcp.api.CheckpointException as error:
        raise OSError(f"{folder} cannot be written: {next(iter(error.failures.values()))[0]}") from error


def read_tensors(folder: str | Path, tensors: dict[str, Tensor], alone: bool = False) -> None:
    """Fill the given tensors, sharded or whole, in place.

    Args:
        folder: A folder of shards.
        tensors: Names as in the folder; shapes must be those of the folder.
        alone: True where only this process reads; otherwise every process of the group must call it.

    Raises:
        ValueError: The shards are damaged or missing.
    """
    alone = alone or not torch.distributed.is_initialized()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*intent is to load in a single process.*")
            dcp.load(tensors, storage_reader=_SafeReader(folder), no_dist=alone)
    except dcp.api.CheckpointException as error:
        first = next(iter(error.failures.values()))[0]
        raise ValueError(f"{folder} is damaged or incomplete ({first}); use an earlier checkpoint") from error


def tensor_shapes(folder: str | Path) -> dict[str, Tensor]:
    """Names in a folder, each with an empty tensor of its shape and type on the ``meta`` device."""
    entries = _SafeReader(folder).read_metadata().state_dict_metadata
    return {
        name: torch.empty(entry.size, dtype=entry.properties.dtype, device="meta") for name, entry in entries.items()
    }


def model_shapes(folder: str | Path) -> dict[str, Tensor]:
    """Names of the weights in a folder, each with an empty tensor of its shape."""
    shapes = tensor_shapes(folder)
    return {name.removeprefix(MODEL): shape for name, shape in shapes.items() if name.startswith(MODEL)}


def read_whole(folder: str | Path, rest: dict[str, Any]) -> dict[str, Any]:
    """Everything in a folder as the MMEngine checkpoint that one process would have written.

    Args:
        folder: A folder of shards.
        rest: The contents of its ``rest.pth``.

    Returns:
        With the keys of ``rest`` and whole tensors, on the CPU.

    Raises:
        ValueError: The folder is damaged, incomplete, or wants to run code.
    """
    tensors = {name: torch.empty_like(shape, device="cpu") for name, shape in tensor_shapes(folder).items()}
    read_tensors(folder, tensors, alone=True)
    return with_tensors(rest, tensors)


class _SafeReader(dcp.FileSystemReader):
    """Reads ``.metadata``, a pickle, without running what it names."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> dcp_metadata.Metadata:
        path = Path(self.path) / ".metadata"
        if not path.is_file():
            raise ValueError(f"{self.path} is incomplete: it has no .metadata; use an earlier checkpoint")
        try:
            metadata = _MetadataUnpickler(io.BytesIO(path.read_bytes())).load()
            entries = metadata.state_dict_metadata
        except ValueError:
            raise
        except Exception as error:  # a damaged pickle raises almost anything
            raise ValueError(
                f"{path} is damaged ({type(error).__name__}: {error}); use an earlier checkpoint"
            ) from error
        for name, entry in entries.items():
            if not isinstance(entry, dcp_metadata.TensorStorageMetadata):
                raise ValueError(f"{path} was refused: {name!r} is no tensor, and reading it would run a pickle")
        if getattr(metadata, "storage_meta", None) is None:
            metadata.storage_meta = dcp_metadata.StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    """Knows the plain records that ``torch.distributed.checkpoint`` describes tensors with, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and (name == "Size" or isinstance(getattr(torch, name, None), torch.dtype | torch.layout)):
            return getattr(torch, name)
        if module == "pathlib._local":  # Python 3.13's name
            module = "pathlib"
        known = {
            "torch.distributed.checkpoint.metadata": dcp_metadata,
            "torch.distributed.checkpoint.filesystem": dcp.filesystem,
            "torch.serialization": torch.serialization,
            "pathlib": pathlib,
            "collections": collections,
        }
        if module == "torch.distributed.checkpoint.metadata":
            found = getattr(known[module], name, None)
            if isinstance(found, type) and found.__module__ == module:
                return found
        elif (module, name) in _PLAIN:
            return getattr(known[module], name)
        raise ValueError(f"a sharded checkpoint was refused, nothing was executed: its .metadata names {module}.{name}")


_PLAIN = {
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "PureWindowsPath"),
    ("collections", "OrderedDict"),
}
