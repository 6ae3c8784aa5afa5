"""Images of what the model answers: panels prompt | query | prediction | truth."""

import os
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from delvm_mm.codecs.base import LabelCodec
from delvm_mm.engine.fully_sharded import is_fully_sharded
from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.evaluation.trivial_answers import as_answer
from delvm_mm.registry import DATASETS, HOOKS
from delvm_mm.structures import DataSample
from delvm_mm.visualization import draw_panel, write_image


@HOOKS.register_module()
class PanelHook(Hook):
    """During testing, write the first answers of the main process as PNG files.

    Args:
        out_dir: Folder for the files, ``<task>_<sample>.png``.
        max_panels: How many of each task. Defaults to 16.
    """

    priority = "LOW"

    def __init__(self, out_dir: str, max_panels: int = 16) -> None:
        self.out_dir = out_dir
        self.max_panels = max_panels
        self._written = 0

    def before_test(self, runner: Runner) -> None:
        """Make the folder, and count anew."""
        os.makedirs(self.out_dir, exist_ok=True)
        self._written = 0

    @master_only
    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: list[DataSample] | None = None
    ) -> None:
        """Write the panels of a batch."""
        for sample in outputs[: self.max_panels - self._written]:
            path = os.path.join(self.out_dir, f"{sample.task}_{sample.sample_idx:05d}.png")
            write_image(path, panel_of(sample, codec_of(runner)))
            self._written += 1


@HOOKS.register_module()
class ValidationPanelHook(Hook):
    """After each validation, answer a few prompts of every task and give the panels to the visualizer's backends.

    With a :class:`FullyShardedDeLVM` it says that it draws nothing.

    Args:
        datasets: Task name -> config of a :class:`VisionPromptDataset`.
        num_samples: Prompts of each task, always the same. Defaults to 2.
    """

    priority = "LOW"

    def __init__(self, datasets: dict[str, dict], num_samples: int = 2) -> None:
        if num_samples < 1:
            raise ValueError(f"ValidationPanelHook.num_samples is {num_samples}, expected 1 or more")
        self.dataset_cfgs = datasets
        self.num_samples = num_samples
        self._datasets: dict[str, Dataset] = {}

    def before_train(self, runner: Runner) -> None:
        """Build the data sets now: what is wrong with them should not wait for the first validation."""
        if is_fully_sharded(runner.model):
            runner.logger.warning("ValidationPanelHook draws nothing: no process holds the whole model")
        elif is_main_process():
            self._datasets = {task: DATASETS.build(cfg) for task, cfg in self.dataset_cfgs.items()}

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Answer and draw."""
        model = unwrap_model(runner.model)
        was_training = model.training
        model.eval()
        for task, dataset in self._datasets.items():
            batch = pseudo_collate([dataset[index] for index in range(min(self.num_samples, len(dataset)))])
            with torch.no_grad():
                samples = model.test_step(batch)
            for index, sample in enumerate(samples):
                runner.visualizer.add_image(f"{task}_{index}", panel_of(sample), step=runner.iter)
        model.train(was_training)


def codec_of(runner: Runner) -> LabelCodec | None:
    """The codec of the task that a runner tests; None where its evaluator has none."""
    return getattr(runner.test_evaluator, "codec", None)


def panel_of(sample: DataSample, codec: LabelCodec | None = None) -> Any:
    """The panel of an answered prompt.

    Args:
        sample: As a model filled it.
        codec: Answer and ceiling are shown as it reads them, where it reads more than the one image.

    Returns:
        uint8, H x W x 3.
    """
    answer, ceiling = sample.pred_image, sample.get("ceiling_image")
    if codec is not None:
        fields = sample.to_dict()
        answer = codec.image_of(fields)
        ceiling = None if ceiling is None else codec.image_of(as_answer(fields, "ceiling_image"))
    return draw_panel(
        sample.prompt_images,
        sample.query_image,
        answer,
        sample.label_image,
        ceiling=ceiling,
        title=f"{sample.task} {sample.sample_idx}",
    )
