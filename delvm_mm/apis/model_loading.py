"""From what a user names, 'mini', a config, a model folder, a Hugging Face export, to a config and weights."""

import copy
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from torch import nn

import delvm_mm
from delvm_mm.apis.model_folder import is_model_folder, read_model_folder
from delvm_mm.checkpoints.sharded import is_sharded
from delvm_mm.engine.configs.files import SCOPE, config_of_checkpoint, resolve_config
from delvm_mm.engine.launch import load_config, load_weights
from delvm_mm.models import DeLVM, delvm_from_huggingface
from delvm_mm.pretrained import resolve_shipped, shipped_names
from delvm_mm.registry import MODELS

__all__ = ["QUICKSTART_MODELS", "build_model", "find_config", "task_codecs"]

QUICKSTART_MODELS = {
    "quickstart": ("quickstart", "quickstart", "make quickstart"),
    "from_scratch": ("mini", "from_scratch", ".venv/bin/python tools/quickstart.py --from-scratch"),
    "mini_long": ("mini_long", "mini_long", ".venv/bin/python tools/quickstart.py --long"),
}
"""Name -> folder in configs/, folder in work_dirs/, and the command that trains it."""

DRAWN_AT = 256  # pixels, the side at which the published skeletons have radius 8
PACKAGE = Path(delvm_mm.__file__).resolve().parent


def find_config(
    model: str | os.PathLike | dict | Config | None,
    weights: str | os.PathLike | None = None,
    options: dict[str, Any] | None = None,
) -> tuple[Config, str | None]:
    """The config of a model, and its weights.

    Args:
        model: A model folder; the name of one that the package carries, such as 'delvm_mm://mini'; a name in
            :data:`QUICKSTART_MODELS`; a config file; a config; or None where ``weights`` brings its own: a checkpoint
            that a run has saved, a model folder or a Hugging Face export.
        weights: A checkpoint, a Hugging Face export folder, or None for a folder's own and the quick start's.
        options: Dotted keys and values that override the config's, as ``--cfg-options`` gives them.

    Returns:
        The config, a copy that may be changed, and the weights.

    Raises:
        FileNotFoundError: If a file is missing, or the quick start has not been run.
        TypeError: If ``model`` is none of these.
        ValueError: If neither of the two is given.
    """
    weights = None if weights is None else os.fspath(weights)
    if model is None and weights is not None and is_model_folder(weights):
        model, weights = weights, None
    if isinstance(model, str | os.PathLike) and (folder := _model_folder(os.fspath(model))) is not None:
        cfg = read_model_folder(folder)
        cfg.merge_from_dict(dict(options or {}))
        return cfg, weights or str(folder)
    if isinstance(model, str) and model in QUICKSTART_MODELS and not os.path.exists(model):
        return _quickstart(model, weights, options)
    if isinstance(model, str | os.PathLike):
        if not os.path.isfile(resolve_config(os.fspath(model))):
            raise FileNotFoundError(
                f"no model '{os.fspath(model)}': expected 'mini', one of {list(QUICKSTART_MODELS)}, the path "
                "of a config, or a model folder"
            )
        return load_config(os.fspath(model), options, needed=("model",)), weights
    if isinstance(model, Config | ConfigDict | dict):
        cfg = Config(copy.deepcopy(dict(model.items())))
    elif model is None:
        if weights is None:
            raise ValueError(
                "neither model nor weights were given; for the model that the package carries, give model='mini'"
            )
        cfg = Config() if is_huggingface(weights) else config_of_checkpoint(weights)
        if cfg is None or not (is_huggingface(weights) or "model" in cfg):
            raise ValueError(
                f"weights {weights} hold no config and were given without a model; give model=<config>, or as weights "
                "what a run has saved, a model folder or the folder of a Hugging Face export (config.json and weights)"
            )
    else:
        raise TypeError(f"model is a {type(model).__name__}; expected 'mini', the path of a config, or a config")
    if options:
        cfg.merge_from_dict(dict(options))
    return cfg, weights


def is_huggingface(weights: str | None) -> bool:
    """Whether weights are an export folder rather than a checkpoint."""
    return weights is not None and os.path.isdir(weights) and not is_sharded(weights) and not is_model_folder(weights)


def build_model(cfg: Config, weights: str | None, tokenizer: Any, device: str) -> DeLVM:
    """Build a model and fill it.

    Args:
        cfg: Its config; not read where ``weights`` is a Hugging Face export.
        weights: A checkpoint, an export folder, or None for random weights, which is said in the log.
        tokenizer: The tokenizer's folder, config or module instead of the config's; see :func:`load_tokenizer`.
        device: Where to.

    Returns:
        In eval mode.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the weights do not fit, want to run code, or belong to another tokenizer.
    """
    init_default_scope("delvm_mm")
    if is_huggingface(weights):
        tokenizer = tokenizer if tokenizer is not None else cfg.get("model", {}).get("tokenizer")
        if tokenizer is None:
            raise ValueError(f"{weights} is a language model alone; give its tokenizer's folder as tokenizer=")
        model = delvm_from_huggingface(weights, tokenizer=tokenizer)
    else:
        settings = copy.deepcopy(cfg.model)
        if tokenizer is not None:
            settings["tokenizer"] = tokenizer if isinstance(tokenizer, nn.Module | dict) else os.fspath(tokenizer)
        model = MODELS.build(settings)
        if weights is None:
            print_log("no weights were given: the model is RANDOM and its answers mean nothing", "current", 30)
        else:
            load_weights(model, weights)
    if not isinstance(model, DeLVM):
        raise ValueError(f"model.type of the config is a {type(model).__name__}, expected DeLVM")
    if model.tokenizer is None:
        raise ValueError("the config's model has no tokenizer and cannot read images; set model.tokenizer")
    return model.to(device).eval()


def task_codecs(cfg: Config, size: int) -> dict[str, dict]:
    """Configs of the codecs of a config's tasks, and of those of the paper that it does not have.

    Args:
        cfg: With ``tasks``, or without.
        size: Side of the images in pixels; the paper's skeletons are scaled to it.

    Returns:
        Name of the task -> config of its codec.
    """
    scale = size / DRAWN_AT
    codecs = {name: task["evaluator"]["codec"] for name, task in (cfg.get("tasks") or {}).items()}
    codecs.setdefault("seg", dict(type="ForegroundMaskCodec"))
    pose = dict(type="SkeletonCodec", radius=max(1.0, 8 * scale), thickness=max(0.5, 4 * scale))
    codecs.setdefault("pose", pose)
    codecs.setdefault("derain", dict(type="RestorationCodec"))
    codecs.setdefault("masks", dict(type="RandomColorMaskCodec"))
    return codecs


def _model_folder(name: str) -> Path | None:
    """The model folder of a path or of a name, 'mini' or 'delvm_mm://mini', that the package carries; or None."""
    if os.path.exists(name):
        return Path(name) if is_model_folder(name) else None
    shipped = name if name.startswith("delvm_mm:/") else f"delvm_mm://{name}"
    if shipped == name or shipped in shipped_names():
        folder = resolve_shipped(shipped)
        return folder if is_model_folder(folder) else None
    return None


def _quickstart(name: str, weights: str | None, options: dict[str, Any] | None) -> tuple[Config, str]:
    configs, work, command = QUICKSTART_MODELS[name]
    cfg = load_config(f"{SCOPE}{configs}/student_kd.py", options)
    places = [Path.cwd(), PACKAGE.parent]
    for place in places:
        folder = place / "work_dirs" / work
        checkpoint = weights or _last_checkpoint(folder / "student_kd")
        tokenizer = folder / "tokenizer" / "pretrained"
        shipped = cfg.model.tokenizer.get("pretrained") in shipped_names()
        if checkpoint and (shipped or (tokenizer / "config.json").is_file()):
            if not shipped:
                cfg.model.tokenizer.pretrained = str(tokenizer)
            return cfg, checkpoint
    looked = " and ".join(str(place / "work_dirs" / work) for place in dict.fromkeys(places))
    raise FileNotFoundError(
        f"the model '{name}' is not trained yet: no student_kd in {looked}; train it with `{command}` in "
        "a checkout of the project, take 'mini', which the package carries, or give config and weights of another model"
    )


def _last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint of a training run; the run writes down its path, but the folder may have moved since."""
    note = folder / "last_checkpoint"
    if note.is_file():
        path = folder / Path(os.fsdecode(note.read_bytes()).strip()).name
        if path.is_file():
            return str(path)
    checkpoints = sorted(folder.glob("iter_*.pth"), key=lambda path: int("0" + path.stem.removeprefix("iter_")))
    return str(checkpoints[-1]) if checkpoints else None
