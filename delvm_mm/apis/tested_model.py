"""A model for a config that has none, such as those of the protocols: from the weights that are to be tested."""

from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.config import Config

from delvm_mm.apis.model_folder import is_model_folder, read_model_folder
from delvm_mm.apis.model_loading import is_huggingface
from delvm_mm.engine.configs.files import config_of_checkpoint

__all__ = ["add_model"]


def add_model(
    cfg: Config, source: str, checkpoint: str | None, tasks: Mapping[str, Any], options: Iterable[str] = ()
) -> None:
    """Give a config without ``model`` that of a checkpoint, and its data sets the size of the model's images.

    Args:
        cfg: Changed in place, unless it has a model. A ``model`` without a type, such as ``model.ensemble.size=8`` of
            the command line gives, is merged into that of the checkpoint.
        source: The config's file, for messages.
        checkpoint: A model folder, or what a run has saved: both hold a config.
        tasks: Name -> ``dict(dataloader=..., evaluator=...)``. Where the folder says a size, ``dataset.size`` becomes
            it, unless an option gives another.
        options: Dotted keys that were set on the command line.

    Raises:
        ValueError: The checkpoint holds no model, or there is none.
    """
    settings = cfg.get("model") or {}
    if "type" in settings:
        return
    if checkpoint is None:
        raise ValueError(f"{source} has no model: name a model folder or a checkpoint, not 'none'")
    given: Mapping[str, Any] | None = None
    if is_model_folder(checkpoint):
        given = read_model_folder(checkpoint)
    elif not is_huggingface(checkpoint):
        given = config_of_checkpoint(checkpoint)
    if given is None or "model" not in given:
        raise ValueError(
            f"{source} has no model, and {checkpoint} holds no config with one: give a model folder, a checkpoint that "
            f"a run has saved, or a config of your own with _base_ = ['<its config>', '{source}']"
        )
    cfg.model = given["model"]
    cfg.merge_from_dict(dict(model=settings))
    cfg.setdefault("default_scope", "delvm_mm")
    size = given.get("size")
    for task in tasks.values():
        dataset = task["dataloader"]["dataset"]
        if size is not None and "size" in dataset and not any(option.endswith("dataset.size") for option in options):
            dataset["size"] = size
