"""Pictures of how a tokenizer gets on, while it is trained."""

from typing import Any

import torch
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from delvm_mm.engine.unwrap import model_to_keep, unwrap_model
from delvm_mm.models.delvm import to_uint8
from delvm_mm.registry import DATASETS, HOOKS
from delvm_mm.visualization.panels import stack_panels
from delvm_mm.visualization.sheets import draw_row


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """While a :class:`VQGANTrainer` is trained, give the same pictures with their reconstructions to the visualizer.

    With MMEngine's ``EMAHook`` they are those of the averaged weights.

    Args:
        interval (int): Training iterations between two sheets. Defaults to 1000.
        num_pictures (int): Pictures on a sheet. Defaults to 8.
        dataset (dict, optional): Config of a data set of clips (``PackClip``) whose first pictures are taken; by
            default the first of the first training batch.

    Raises:
        ValueError: If a number is below 1.
    """

    priority = "LOW"

    def __init__(self, interval: int = 1000, num_pictures: int = 8, dataset: dict | None = None) -> None:
        if interval < 1 or num_pictures < 1:
            raise ValueError(f"interval and num_pictures must be at least 1, got {interval} and {num_pictures}")
        self.interval = interval
        self.num_pictures = num_pictures
        self.dataset_cfg = dataset
        self._pictures: Tensor | None = None

    def before_train(self, runner: Runner) -> None:
        """Load the pictures now: what is wrong with them should not wait."""
        if self.dataset_cfg is None or not is_main_process():
            return
        dataset, pictures = DATASETS.build(self.dataset_cfg), []
        for index in range(len(dataset)):
            pictures.extend(dataset[index]["inputs"])
            if len(pictures) >= self.num_pictures:
                break
        self._pictures = torch.stack(pictures[: self.num_pictures])

    @master_only
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Reconstruct and draw."""
        trainer = unwrap_model(runner.model)
        if self._pictures is None:
            self._pictures = trainer.pictures_of(data_batch["inputs"])[: self.num_pictures].clone()
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = model_to_keep(runner)
        was_training = model.training
        model.eval()
        pictures = trainer.pictures_of(self._pictures).to(next(model.parameters()).device)
        with torch.no_grad():
            reconstructions = model.vqgan(pictures)
        model.train(was_training)
        rows = [
            draw_row([[("picture", picture), ("reconstruction", reconstruction)]])
            for picture, reconstruction in zip(to_uint8(pictures), to_uint8(reconstructions), strict=True)
        ]
        runner.visualizer.add_image("reconstruction", stack_panels(rows), step=runner.iter + 1)
