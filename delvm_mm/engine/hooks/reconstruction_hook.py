"""Reconstructions of a few images, saved while a tokenizer is trained."""

from typing import Any

import torch
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from delvm_mm.engine.unwrap import model_to_keep, unwrap_model
from delvm_mm.models.tokenizers.images import to_uint8
from delvm_mm.registry import DATASETS, HOOKS
from delvm_mm.visualization.panels import stack_panels
from delvm_mm.visualization.sheets import draw_row


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """While a :class:`VQGANTrainer` is trained, give the same images with their reconstructions to the visualizer.

    With MMEngine's ``EMAHook`` they are those of the averaged weights.

    Args:
        interval: Training iterations between two sheets. Defaults to 1000.
        num_images: Images on a sheet. Defaults to 8.
        dataset: Config of a data set of clips (``PackClip``) whose first images are taken; by
            default the first of the first training batch.

    Raises:
        ValueError: If a number is below 1.
    """

    priority = "LOW"

    def __init__(self, interval: int = 1000, num_images: int = 8, dataset: dict | None = None) -> None:
        if interval < 1 or num_images < 1:
            raise ValueError(f"interval and num_images must be at least 1, got {interval} and {num_images}")
        self.interval = interval
        self.num_images = num_images
        self.dataset_cfg = dataset
        self._images: Tensor | None = None

    def before_train(self, runner: Runner) -> None:
        """Load the images now: what is wrong with them should not wait."""
        if self.dataset_cfg is None or not is_main_process():
            return
        dataset, images = DATASETS.build(self.dataset_cfg), []
        for index in range(len(dataset)):
            images.extend(dataset[index]["inputs"])
            if len(images) >= self.num_images:
                break
        self._images = torch.stack(images[: self.num_images])

    @master_only
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Reconstruct and draw."""
        trainer = unwrap_model(runner.model)
        if self._images is None:
            self._images = trainer.images_of(data_batch["inputs"])[: self.num_images].clone()
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = model_to_keep(runner)
        was_training = model.training
        model.eval()
        images = trainer.images_of(self._images).to(next(model.parameters()).device)
        with torch.no_grad():
            reconstructions = model.vqgan(images)
        model.train(was_training)
        rows = [
            draw_row([[("image", image), ("reconstruction", reconstruction)]])
            for image, reconstruction in zip(to_uint8(images), to_uint8(reconstructions), strict=True)
        ]
        runner.visualizer.add_image("reconstruction", stack_panels(rows), step=runner.iter + 1)
