"""Checkpoints of a model that no process holds whole."""

import functools
import os
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor

from delvm_mm.checkpoints.files import put_in_place
from delvm_mm.checkpoints.sharded import (
    MODEL,
    REST,
    is_sharded,
    read_tensors,
    tensor_shapes,
    tensors_of,
    with_tensors,
    write_tensors,
)
from delvm_mm.engine.fully_sharded import is_fully_sharded, shard_like, whole
from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class ShardedCheckpointHook(Hook):
    """Let MMEngine's ``CheckpointHook`` save, and its runner load and resume, a :class:`FullyShardedDeLVM`.

    A checkpoint is one ordinary file, gathered by the first process, or a folder into which every process writes its
    own shards. Either can be resumed on any number of processes, sharded or not, and read by one process
    (``delvm test``); ``delvm consolidate`` makes a file of a folder. With any other model this hook
    does nothing.

    Args:
        sharded: True for folders: no process needs memory for the whole, and all of them write at once.
            Defaults to False.
    """

    priority = "VERY_HIGH"

    def __init__(self, sharded: bool = False) -> None:
        self.sharded = sharded
        self._restore: tuple | None = None
        self._gathered: dict[str, Any] | None = None

    def before_run(self, runner: Runner) -> None:
        """Make all processes take part in saving, and read folders shard by shard."""
        if not is_fully_sharded(runner.model) or self._restore:
            return
        loader = CheckpointLoader._schemes[""]
        self._restore = (runner.save_checkpoint, loader)
        # CheckpointHook calls this in every process; MMEngine's own returns at once in all but the first.
        runner.save_checkpoint = functools.partial(self._save_checkpoint, runner)
        CheckpointLoader.register_scheme(prefixes="", loader=_reader_of_folders(loader), force=True)

    def after_run(self, runner: Runner) -> None:
        """Leave the runner as it was."""
        if self._restore:
            runner.save_checkpoint, loader = self._restore
            CheckpointLoader.register_scheme(prefixes="", loader=loader, force=True)
            self._restore = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the gathered tensors, or none, in the place of the first process's shards."""
        if self._gathered is not None:
            checkpoint["state_dict"] = self._gathered["model"]
            if "optimizer" in checkpoint:
                checkpoint["optimizer"] = dict(checkpoint["optimizer"], state=self._gathered["optimizer"])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Read this process's shards from a folder, or cut the optimizer state of a whole file."""
        if not is_fully_sharded(runner.model):
            return
        parameters = _parameters(runner.optim_wrapper)
        folder = checkpoint.pop("shards", None)
        if folder is not None:
            checkpoint.update(_read_shards(folder, checkpoint, runner.model.module.state_dict(), parameters))
        elif parameters and "optimizer" in checkpoint:
            state = checkpoint["optimizer"]["state"]
            for number, values in state.items():
                state[number] = {key: shard_like(value, parameters[number]) for key, value in values.items()}

    def _save_checkpoint(self, runner: Runner, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """As ``Runner.save_checkpoint``, called by all processes."""
        save = self._restore[0]
        model_state = runner.model.module.state_dict()
        with_optimizer = kwargs.get("save_optimizer", True)
        optimizer_state = runner.optim_wrapper.state_dict()["state"] if with_optimizer else {}
        if not self.sharded:
            # One tensor after another: together they fit into the memory of the first process's host only.
            self._gathered = dict(model=_gather(model_state), optimizer={})
            for number, values in optimizer_state.items():
                self._gathered["optimizer"][number] = _gather(values)
            save(out_dir, filename, *args, **kwargs)
        else:
            folder, unfinished = os.path.join(out_dir, filename), os.path.join(out_dir, filename + ".tmp")
            self._gathered = dict(model={}, optimizer={})
            save(unfinished, REST, *args, **kwargs)
            barrier()
            write_tensors(unfinished, tensors_of(model_state, optimizer_state))
            if is_main_process():
                put_in_place(unfinished, folder)
        self._gathered = None
        barrier()


def _gather(values: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for key, value in values.items():
        gathered = whole(value)
        if is_main_process():
            kept[key] = gathered
    return kept


def _reader_of_folders(read_file: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A loader for MMEngine that leaves the tensors of a folder to :meth:`after_load_checkpoint`."""

    def load(filename: str, map_location: Any = None) -> dict[str, Any]:
        if not is_sharded(filename):
            return read_file(filename, map_location=map_location)
        return dict(read_file(os.path.join(filename, REST)), shards=filename)

    return load


def _parameters(optim_wrapper: Any) -> list[Tensor]:
    """The parameters in the order of their numbers in the optimizer's state dict; none before it is built."""
    if not isinstance(optim_wrapper, OptimWrapper):
        return []
    return [parameter for group in optim_wrapper.optimizer.param_groups for parameter in group["params"]]


def _read_shards(
    folder: str, rest: dict[str, Any], model_state: dict[str, Tensor], parameters: list[Tensor]
) -> dict[str, Any]:
    """The checkpoint in a folder, with tensors cut as the model's and the optimizer's are."""
    tensors = {}
    for key, stored in tensor_shapes(folder).items():
        if key.startswith(MODEL):
            like = model_state.get(key.removeprefix(MODEL))
        else:
            number = int(key.split("/")[1])
            like = parameters[number] if number < len(parameters) else None
        same = like is not None and like.shape == stored.shape
        tensors[key] = torch.zeros_like(like.detach()) if same else torch.empty_like(stored, device="cpu")
    read_tensors(folder, tensors)
    return with_tensors(rest, tensors)
