"""A model as one folder: to zip, to upload, to load elsewhere. Nothing in it is a pickle, nothing in it is executed.

::

    config.json          sizes of the model, codecs of its tasks, the side of its images
    model.safetensors    weights; over 4 GB several files and an index
    tokenizer/           config.json and model.safetensors of the tokenizer
    prompts/<task>/      pairs <name>_img.png and <name>_label.png, and queries/ to try
    README.md            model card with front matter
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from delvm_mm.apis.model_card import ModelCard
from delvm_mm.checkpoints.files import put_in_place, temporary_beside
from delvm_mm.checkpoints.weight_folder import SHARD_BYTES, save_weight_folder
from delvm_mm.codecs import LabelCodec
from delvm_mm.engine.launch import load_weights
from delvm_mm.models import VQGAN, DeLVM
from delvm_mm.models.description import describe_model, weights_of
from delvm_mm.pretrained import resolve_shipped
from delvm_mm.registry import MODELS, TASK_UTILS, type_name
from delvm_mm.visualization import write_image

__all__ = ["is_model_folder", "load_model", "read_model_folder", "save_model"]

FORMAT = "delvm_mm.model"
VERSION = 1
CONFIG = "config.json"
# A folder comes from anywhere: its config may name these classes and codecs, nothing that Python could import.
_PARTS = ("DeLVM", "VQGAN", "LLaMA", "CodebookEmbedding", "TokenEmbedding", "NextTokenHead", "TokenSampler")
Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


def is_model_folder(path: Any) -> bool:
    """Whether a path, or a name such as ``'delvm_mm://mini'``, is a folder that :func:`save_model` wrote."""
    try:
        config = json.loads((resolve_shipped(path) / CONFIG).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, TypeError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def save_model(
    model: DeLVM,
    folder: str | Path,
    *,
    size: int | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    prompts: Mapping[str, Pairs] | None = None,
    queries: Mapping[str, Sequence[np.ndarray]] | None = None,
    samplers: Mapping[str, Mapping[str, Any]] | None = None,
    ensembles: Mapping[str, Mapping[str, Any]] | None = None,
    card: ModelCard | None = None,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a model folder, which appears whole or not at all.

    Args:
        model: With its tokenizer, or without one: then it only ever sees tokens.
        folder: Must not be there, be empty, or be a model folder, which is replaced.
        size: Side of its images in pixels. Defaults to the tokenizer's resolution.
        tasks: Name -> config of the codec that draws and reads its labels.
        prompts: Task -> pairs of image and label, uint8, H x W x 3, RGB.
        queries: Task -> images to try, uint8, H x W x 3, RGB.
        samplers: Task -> arguments of a :class:`TokenSampler` in place of the model's own.
        ensembles: Task -> arguments of a :class:`PromptEnsemble`, behind whose prompts it is answered.
        card: What the README says; its numbers are filled in.
        dtype: Of the weights in the file, such as ``torch.bfloat16``. Defaults to those of the model.
        shard_bytes: Most bytes of a weight file.

    Returns:
        The folder.

    Raises:
        FileExistsError: Something else has that name.
        ValueError: A part of the model is of another class, or a setting is not plain.
    """
    folder = Path(folder)
    check_target(folder)
    tasks = {name: _plain(codec, f"tasks.{name}") for name, codec in (tasks or {}).items()}
    for name, codec in tasks.items():
        _check_codec(codec, f"tasks.{name}")
    config: dict[str, Any] = dict(format=FORMAT, version=VERSION, model=_plain(describe_model(model), "model"))
    if model.tokenizer is not None:
        if not isinstance(model.tokenizer, VQGAN):
            raise ValueError(f"the tokenizer is a {type(model.tokenizer).__name__}; only a VQGAN can be written")
        size = size or model.tokenizer.config["resolution"]
        config["model"]["tokenizer"] = dict(type="VQGAN", pretrained="tokenizer")
        config["tokenizer_fingerprint"] = model.tokenizer.fingerprint
    config |= dict(size=size, tasks={name: dict(codec=codec) for name, codec in tasks.items()})
    for kind, given in (("sampler", samplers or {}), ("ensemble", ensembles or {})):
        for task, settings in given.items():
            _task_entry(config["tasks"], task, kind)[kind] = _plain(settings, f"{kind}s.{task}")
    with temporary_beside(folder) as temporary:
        temporary.mkdir(parents=True)
        for kind, given in (("prompt", prompts or {}), ("queries", queries or {})):
            for task, images in given.items():
                if not len(images):
                    continue
                place = Path("prompts", task, "" if kind == "prompt" else kind)
                _task_entry(config["tasks"], task, kind)[kind] = place.as_posix()
                _write_images(temporary / place, images)
        (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_weight_folder(temporary, weights_of(model, dtype), shard_bytes)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(temporary / "tokenizer", safe_serialization=True)
        text = (card or ModelCard(name=folder.name)).text(model, tasks, size)
        (temporary / "README.md").write_text(text, encoding="utf-8")
        put_in_place(temporary, folder)
    return folder


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> DeLVM:
    """Build the model of a folder that :func:`save_model` wrote, wherever the folder lies.

    Args:
        folder: Its path, or a name such as ``'delvm_mm://mini'``.
        device: Where to.

    Returns:
        In eval mode, weights in float32.

    Raises:
        FileNotFoundError: The folder or a file in it is missing.
        ValueError: A file is damaged, of a later version, or names what it may not.
    """
    folder = resolve_shipped(folder)
    model = MODELS.build(read_model_folder(folder)["model"])
    load_weights(model, str(folder))
    return model.to(device).eval()


def read_model_folder(folder: str | Path) -> Config:
    """The config of a model folder, in the form of this package's configs.

    Args:
        folder: Its path, or a name such as ``'delvm_mm://mini'``.

    Returns:
        ``model`` (its tokenizer by its whole path), ``size``, and ``tasks``: name -> ``evaluator.codec`` and, where
        there are some, folders of a ``prompt`` and of ``queries``, and a ``sampler``.

    Raises:
        FileNotFoundError: It has no ``config.json``.
        ValueError: That is damaged, of a later version, or names what it may not.
    """
    folder = resolve_shipped(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no model folder: it has no {CONFIG}; save_model writes such folders")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); copy it again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not the config of a model folder: expected 'format': '{FORMAT}'")
    if content.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {content.get('version')!r} of the format, this package reads {VERSION}; update "
            "delvm_mm, or write the folder again"
        )
    try:
        model, tasks = dict(content["model"]), dict(content.get("tasks") or {})
        codecs = {name: task["codec"] for name, task in tasks.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} lacks a part ({error!r}): expected 'model', and 'tasks' with a 'codec' each"
        ) from error
    _check_types(model, path)
    for name, codec in codecs.items():
        _check_codec(codec, f"{path}: tasks.{name}")
    _check_model(model, path)
    if model.get("tokenizer") is not None:
        model["tokenizer"] = dict(type="VQGAN", pretrained=str(_inside(folder, model["tokenizer"]["pretrained"])))
    read = {}
    for name, task in tasks.items():
        places = {kind: str(_inside(folder, task[kind])) for kind in ("prompt", "queries") if kind in task}
        read[name] = dict(evaluator=dict(codec=codecs[name]), **places)
        read[name] |= {kind: task[kind] for kind in ("sampler", "ensemble") if task.get(kind)}
    return Config(dict(model=model, size=content.get("size"), tasks=read))


def check_target(folder: Path) -> None:
    """Refuse to replace anything but a model folder.

    Raises:
        FileExistsError: If something else is there.
    """
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not is_empty and not is_model_folder(folder):
        raise FileExistsError(f"{folder} is there already and is no model folder; name another one, or delete it")


def _inside(folder: Path, place: Any) -> Path:
    path = (folder / str(place)).resolve()
    if not isinstance(place, str) or not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{folder / CONFIG} names {place!r}, expected a folder inside of the model folder")
    return path


def _check_types(config: Any, path: Path) -> None:
    """Refuse types that are none of this package's, which MMEngine would import by name and call."""
    if isinstance(config, dict):
        if "type" in config and config["type"] not in _PARTS:
            raise ValueError(f"{path} was refused: type {config['type']!r} is none of {', '.join(_PARTS)}")
        config = config.values()
    elif not isinstance(config, list):
        return
    for value in config:
        _check_types(value, path)


def _check_model(model: dict[str, Any], path: Path) -> None:
    try:
        with torch.device("meta"):  # neither memory nor time
            MODELS.build(dict(model, tokenizer=None))
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} does not describe a model ({reason}); copy it again") from error


def _check_codec(codec: Any, name: str) -> None:
    kind = codec.get("type") if isinstance(codec, Mapping) else None
    TASK_UTILS.import_from_location()  # get() would, and would import whatever a name with dots says, too
    known = TASK_UTILS.module_dict.get(kind) if isinstance(kind, str) else None
    if known is None or not (isinstance(known, type) and issubclass(known, LabelCodec)):
        raise ValueError(f"{name}: {kind!r} is no registered codec; import the module that has it, or leave it out")


def _plain(value: Any, name: str) -> Any:
    """Plain values of a config, for JSON: classes by their registered name, tuples as lists."""
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise ValueError(f"{name} has the key {odd[0]!r}, which no JSON file can keep; expected strings")
        values = {key: _plain(one, f"{name}.{key}") for key, one in value.items()}
        return values | dict(type=type_name(value)) if "type" in value else values
    if isinstance(value, list | tuple):
        return [_plain(one, f"{name}[{number}]") for number, one in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{name} is a {type(value).__name__}, which no JSON file can keep; expected plain values")


def _task_entry(tasks: dict[str, dict], task: str, kind: str) -> dict:
    if task not in tasks or Path(task).name != task:
        raise ValueError(f"{kind} was given for '{task}', expected the name of a task, one of {list(tasks)}")
    return tasks[task]


def _write_images(folder: Path, images: Iterable[np.ndarray | tuple[np.ndarray, np.ndarray]]) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        if isinstance(image, tuple):
            for pixels, kind in zip(image, ("img", "label"), strict=True):
                write_image(folder / f"{number:02d}_{kind}.png", pixels)
        else:
            write_image(folder / f"{number:02d}.png", image)
