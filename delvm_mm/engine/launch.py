"""What the command-line tools share: reading a config, safe checkpoints, and errors that a user can read."""

import difflib
import functools
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from delvm_mm.checkpoints.io import check_fits, load_checkpoint, load_into, load_state_dict
from delvm_mm.checkpoints.sharded import is_sharded, model_shapes
from delvm_mm.engine.configs.errors import fault_of_config
from delvm_mm.engine.configs.files import read_config, resolve_config
from delvm_mm.engine.configs.hooks import hooks_of, settle_hooks
from delvm_mm.engine.configs.variables import ineffective_options
from delvm_mm.engine.launchers import LAUNCHER_VARIABLES, LAUNCHERS, launcher_of
from delvm_mm.engine.reports.log_processor import with_exact_metrics
from delvm_mm.quiet import quiet_terminal
from delvm_mm.registry import type_name

# What these tools read besides the arguments of MMEngine's Runner.
OWN_KEYS = ("tasks", "stores", "tokenizer", "tokenization", "model_wrapper_cfg", "runner_type", "strategy")
TRACEBACK_VARIABLE = "DELVM_MM_TRACEBACK"
USER_ERRORS = (ValueError, OSError, ImportError, SyntaxError, ConfigParsingError, FloatingPointError)


def load_config(path: str, options: Mapping[str, Any] | None = None, needed: Sequence[str] = ()) -> Config:
    """Read a config and merge the options of the command line into it.

    Args:
        path: A config file, or a name that :func:`resolve_config` knows.
        options: Dotted keys and values, as ``--cfg-options`` gives them.
        needed: Top-level keys that must be there.

    Returns:
        With ``work_dir`` set, by default to ``work_dirs/<name of the file>``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a checkpoint, a top-level key looks misspelled or is missing, an option names no key of the
            config or a variable that others were computed from, or a hook has no type or an unknown argument.
    """
    path = resolve_config(path)
    cfg = read_config(path)
    known = set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"} | set(OWN_KEYS)
    for key in options or {}:
        top = key.split(".")[0]
        if top not in cfg and top not in known:
            raise ValueError(f"--cfg-options: {path} has no key '{top}'{_suggest(top, known | set(cfg.keys()))}")
    if late := ineffective_options(path, options or {}, known):
        option, kept = late
        shown = ", ".join(kept[:6]) + (f" and {len(kept) - 6} more" if len(kept) > 6 else "")
        raise ValueError(
            f"--cfg-options: '{option}' is a variable of {path}, which has been read: {shown} were computed from "
            "it and would stay as they are; set these"
        )
    for key in needed:
        if key not in cfg:
            raise ValueError(f"{path} has no '{key}'; derive it from a config in configs/")
    try:
        cfg.merge_from_dict(dict(options or {}))
    except (KeyError, TypeError) as error:  # an entry that a list has not, a key below a value that has none
        raise ValueError(f"--cfg-options: {error.args[0]}") from error
    for key in cfg:
        if key not in known and (close := difflib.get_close_matches(key, known, n=1, cutoff=0.85)):
            raise ValueError(f"{path}: '{key}' is not a key that is read; did you mean '{close[0]}'?")
    settle_hooks(cfg, path)
    if cfg.get("work_dir") is None:
        cfg.work_dir = os.path.join("work_dirs", Path(path).stem)
    cfg.log_processor = with_exact_metrics(cfg.get("log_processor"))
    return cfg


def set_up_distributed(cfg: Config, launcher: str) -> None:
    """Join the other processes of the run: of the launcher named, or with 'none' of the one that started this process.

    On machines without a GPU, processes started by ``torchrun`` talk through gloo; MMEngine itself assumes a CUDA
    device for every process.

    Raises:
        ValueError: If the launcher did not start this process.
    """
    if launcher == "none":
        launcher = launcher_of(os.environ)
    if missing := [name for name in LAUNCHER_VARIABLES.get(launcher, ()) if name not in os.environ]:
        raise ValueError(
            f"launcher '{launcher}': {missing} are not in the environment of this process; start it with "
            f"{LAUNCHERS[launcher]}, or leave --launcher out for a single process"
        )
    cfg.launcher = launcher
    if launcher == "pytorch" and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)):
        _init_restarted_group(cfg.get("env_cfg", {}).get("dist_cfg", {}).get("backend", "nccl"))
    elif launcher == "pytorch" and not torch.cuda.is_available():
        torch.distributed.init_process_group("gloo")
    if launcher == "pytorch" and not torch.cuda.is_available():
        cfg.pop("sync_bn", None)  # of GPUs alone
        cfg.setdefault(
            "model_wrapper_cfg",
            dict(type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False),
        )
    wrapper = cfg.get("model_wrapper_cfg") or {}
    if type_name(wrapper) == "FullyShardedDeLVM":
        # MMEngine's runner looks wrappers up without regard to the default scope, and saves what the first process has.
        wrapper["type"] = "delvm_mm.FullyShardedDeLVM"
        if all(type_name(hook) != "ShardedCheckpointHook" for hook in hooks_of(cfg)):
            cfg.merge_from_dict(
                dict(default_hooks=dict(sharded_checkpoint=dict(type="delvm_mm.ShardedCheckpointHook")))
            )


def check_precision(cfg: Config) -> None:
    """Refuse MMEngine's ``AmpOptimWrapper`` where it cannot run.

    Raises:
        ValueError: If there is no accelerator.
    """
    if type_name(cfg.optim_wrapper) == "AmpOptimWrapper" and get_device() == "cpu":
        raise ValueError(
            "optim_wrapper.type is 'AmpOptimWrapper', which needs a GPU, and there is none here; use "
            "'AutocastOptimWrapper', which computes in bfloat16 on CPUs too (--amp does so)"
        )


def _init_restarted_group(backend: str) -> None:
    """Join the processes that ``torchrun`` has started again.

    Its store is still that of the first attempt, with the addresses of processes that have ended: one that reads
    them before they are overwritten cannot connect, and the restart fails. So this attempt has names of its own.
    """
    store, rank, world_size = next(torch.distributed.rendezvous("env://"))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        backend = "gloo"
    store = torch.distributed.PrefixStore(f"restart_{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size)


def build_runner(cfg: Config) -> Runner:
    """Build the runner that a config asks for; its logger keeps from the terminal what a user cannot act on."""
    runner = RUNNERS.build(cfg) if cfg.get("runner_type") else Runner.from_cfg(cfg)
    quiet_terminal(runner.logger)
    log_any_name(runner.logger)
    return runner


def use_safe_checkpoints() -> None:
    """Make MMEngine read local checkpoints with ``weights_only`` on: a pickle that wants to run code is refused.

    MMEngine itself falls back to unrestricted loading, or cannot resume with current PyTorch, depending on its version.
    """

    def load(filename: str, map_location: Any = None) -> dict[str, Any]:
        checkpoint = load_checkpoint(os.path.expanduser(filename))
        # Resuming would evaluate this entry of old checkpoints as Python.
        if isinstance(checkpoint.get("meta"), dict):
            checkpoint["meta"].pop("config", None)
        return checkpoint

    def refuse(filename: str, map_location: Any = None) -> None:
        raise ValueError(f"{filename}: weights are read from local files only; download it and name the file")

    for prefix in list(CheckpointLoader._schemes):
        CheckpointLoader.register_scheme(prefixes=prefix, loader=refuse if prefix else load, force=True)


def check_weights_fit(model: nn.Module, path: str) -> None:
    """Refuse a checkpoint whose tensors have other shapes, or none of the model's names, which MMEngine only logs.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not fit, is damaged or wants to run code.
    """
    weights = model_shapes(path) if is_sharded(path) else load_state_dict(path)
    if not set(weights) & set(model.state_dict()):
        raise ValueError(
            f"{path} holds no weight of a {type(model).__name__}: its first keys are {list(weights)[:3]}, the model's "
            f"are {list(model.state_dict())[:3]}; give a checkpoint of this config"
        )
    check_fits(model, weights, source=path, strict=False)


def load_weights(model: nn.Module, path: str) -> None:
    """Load a :class:`DeLVM`'s checkpoint strictly; the frozen tokenizer is the config's unless the checkpoint has one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not fit, is damaged, wants to run code, or was trained with another tokenizer.
    """
    weights = load_state_dict(path)
    prefix = "tokenizer."
    carried = {key.removeprefix(prefix): weights.pop(key) for key in list(weights) if key.startswith(prefix)}
    if carried and model.tokenizer is not None:
        load_into(model.tokenizer, carried, source=path)
    own = {key: value for key, value in model.state_dict().items() if key.startswith(prefix)}
    load_into(model, weights | own, source=path)


def user_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Print the message of a user's error alone and exit with 1; ``DELVM_MM_TRACEBACK=1`` shows where it came from.

    A ``KeyError`` or ``TypeError`` is a bug and keeps its traceback, unless a registry says that the config has an
    unknown name or argument. Where a run has a log already, the traceback of whatever ended it is in that.

    Returns:
        ``main`` with this around it.
    """

    @functools.wraps(main)
    def run(*args: Any) -> None:
        print_any_name()
        try:
            main(*args)
        except KeyboardInterrupt:
            print("interrupted; run the same command again (with --resume for delvm train) to go on", file=sys.stderr)
            sys.exit(130)
        except Exception as error:
            log = _log_traceback(error)
            text = _message_for_user(error)
            if text is None or os.environ.get(TRACEBACK_VARIABLE):
                raise
            advice = f"{log} has the traceback" if log else f"set {TRACEBACK_VARIABLE}=1 to see where it was raised"
            print(f"error: {text}\n({advice})", file=sys.stderr)
            sys.exit(1)

    return run


def print_any_name() -> None:
    """Print names of files that are no UTF-8 with their bytes escaped, instead of ending the run, from now on."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not of what a notebook or a test puts in its place
            stream.reconfigure(errors="backslashreplace")


def log_any_name(logger: logging.Logger) -> None:
    """Let the log files of a logger take names that are no UTF-8, with their bytes escaped, from now on."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.errors = "backslashreplace"
            if handler.stream is not None:
                handler.stream.reconfigure(errors=handler.errors)


def _message_for_user(error: Exception) -> str | None:
    """What to tell a user, None where it is a bug."""
    if isinstance(error, KeyError | TypeError):
        return fault_of_config(error)
    if not isinstance(error, USER_ERRORS):
        return None
    text = str(error).strip()
    if text.startswith("Caught "):  # a loader's worker hands over its whole traceback; the error ends it
        text = text.splitlines()[-1].partition(": ")[2]
    return text


def _log_traceback(error: Exception) -> str | None:
    """Write it into the log of the run, if there is one yet; the path of the log."""
    logger = MMLogger.get_current_instance()
    files = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
    text = "".join(traceback.format_exception(error)).rstrip()
    text = text.encode(errors="backslashreplace").decode()  # it may name a file whose name is no UTF-8
    for handler in files:
        handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, text, (), None))
    return files[0].baseFilename if files else None


def _suggest(key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; its keys are {sorted(known)}"
