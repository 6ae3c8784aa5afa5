"""Tasks of a config as the studies of prompts take them: their data, and what a prompt of them can be."""

from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.data import Dataset

from delvm_mm.apis.tested_model import add_model
from delvm_mm.datasets import VisionPromptDataset
from delvm_mm.engine.launch import load_config, load_weights
from delvm_mm.engine.task_val_loop import tasks_of
from delvm_mm.models import DeLVM
from delvm_mm.registry import DATASETS, EVALUATOR, MODELS, type_name
from prompt_study_settings import Setting, TaskFacts


def read_config(path: str, checkpoint: str, options: dict[str, Any] | None) -> Config:
    """A config with its ``tasks``, and with the model of the checkpoint where it has none.

    Args:
        path: Of the config.
        checkpoint: Path of the weights, a model folder, or 'none'.
        options: Settings that override the config's.
    """
    cfg = load_config(path, options)
    init_default_scope("delvm_mm")
    cfg.tasks = tasks_of(cfg)
    add_model(cfg, path, None if checkpoint.lower() == "none" else checkpoint, cfg.tasks, options or ())
    return cfg


def build_model(cfg: Config, checkpoint: str, device: str) -> DeLVM:
    """The model of a config with its weights, ready to answer; with 'none' as initialized."""
    model = MODELS.build(cfg.model)
    if checkpoint.lower() != "none":
        load_weights(model, checkpoint)
    return model.to(device).eval()


class Remembered(Dataset):
    """A data set whose samples are made once; all else is its own."""

    def __init__(self, dataset: Dataset, most: int = 1024) -> None:
        self._dataset, self._most, self._samples = dataset, most, {}

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        if index not in self._samples:
            sample = self._dataset[index]
            if len(self._samples) >= self._most:
                return sample
            self._samples[index] = sample
        return self._samples[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._dataset, name)


class Task:
    """A task of the config: its data, and what a prompt of it can be."""

    def __init__(self, name: str, cfg: Config, model: DeLVM) -> None:
        config = cfg.tasks[name].dataloader.dataset
        if type_name(config) != "VisionPromptDataset":
            raise ValueError(
                f"task '{name}' has a {type_name(config)}, and prompts of a VisionPromptDataset are what can be studied"
            )
        self.name, self.config, self.settings = name, config, cfg.tasks[name]
        self.evaluator = dict(self.settings.evaluator, prefix=None)
        self.support = Remembered(DATASETS.build(config.support))
        self.query = self.support if config.support == config.query else Remembered(DATASETS.build(config.query))
        image = self.query[0]["img"]
        rows, columns = model.tokenizer.grid_of(*image.shape[:2])
        images = (model.max_positions - model.prompt_overhead) // (rows * columns)
        if images < 4:
            raise ValueError(f"the context of {model.max_positions} tokens holds no pair, query and answer of '{name}'")
        most = (images - 2) // 2
        codec = EVALUATOR.build(self.evaluator).codec
        self.reads_query = codec.reads_query
        self.facts = TaskFacts(
            max_pairs=most,
            num_pairs=min(config.get("num_pairs", 3), most),
            num_support=len(self.support),
            has_classes=all(hasattr(each, "class_ids") for each in (self.support, self.query)),
            reads_classes=isinstance(codec.decode(np.zeros_like(image)), np.ndarray) and not codec.restores,
        )

    def dataset(self, setting: Setting, seed: int, shared: bool, features: dict[str, dict]) -> Dataset:
        """The queries behind the prompts of a setting, without its control."""
        choice = dict(num_pairs=setting.num_pairs, seed=seed, selection=setting.selection)
        if setting.selection == "nearest":
            choice |= dict(features=features[setting.features], diversity=setting.diversity)
            choice["same_class"] = setting.same_class
        elif setting.selection == "random" and shared:
            choice["selection"] = "fixed"
        return VisionPromptDataset(self.support, self.query, **choice)
