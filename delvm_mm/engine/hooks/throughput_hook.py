"""Tokens a second and utilization in the log of training, images a second in that of testing."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.engine.flops import measure_peak_flops, training_flops_per_token
from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.models import DeLVM
from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log tokens a second of all processes, and the number of trainable parameters once before training.

    The rate is the mean over the last ``interval`` steps, everything included (loading, step, hooks); validation and
    saving are left out. In testing, images a second of all processes since the beginning.

    With ``peak_flops``, model FLOPs utilization as ``mfu``: the operations that the model asks for (the formula is in
    :mod:`delvm_mm.engine.flops`; an online teacher's forward pass included, what checkpointing computes twice not),
    as a share of what the devices could do in the same time.

    Args:
        interval: Steps between two values. Defaults to 10.
        peak_flops: Floating-point operations a second of one device (in one process), such as
            989e12 for an H100 in dense bfloat16; or 'measure': the rate of a large matrix product in the type that
            the model runs in, measured before training in each process. Defaults to None: no utilization.

    Raises:
        ValueError: If ``peak_flops`` is neither positive nor 'measure', or the model is no :class:`DeLVM`.
    """

    # Before LoggerHook, which writes what is there when its turn comes.
    priority = "NORMAL"

    def __init__(self, interval: int = 10, peak_flops: float | str | None = None) -> None:
        if peak_flops not in (None, "measure") and not (isinstance(peak_flops, int | float) and peak_flops > 0):
            raise ValueError(f"peak_flops is {peak_flops!r}, expected operations a second, 'measure' or None")
        self.interval = interval
        self.peak_flops = peak_flops
        self._flops_per_token: dict[int, float] = {}
        self._flops = 0.0
        self._tokens = 0
        self._seconds = 0.0
        self._since: float | None = None
        self._images = 0

    def before_train(self, runner: Runner) -> None:
        """Print the number of trainable parameters, and the peak."""
        model = unwrap_model(runner.model)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        runner.logger.info(f"trainable parameters: {trained:,}")
        if self.peak_flops is None:
            return
        if not isinstance(model, DeLVM):
            raise ValueError(f"ThroughputHook.peak_flops: utilization of a {type(model).__name__} is not known")
        if self.peak_flops == "measure":
            peak = measure_peak_flops(*_type_and_device(runner))
            mean = torch.tensor(peak.flops, dtype=torch.float64)
            all_reduce(mean, op="mean")
            self.peak_flops = mean.item()
            runner.logger.info(
                f"measured peak: {self.peak_flops / 1e12:.3g} TFLOP/s a process, products of {peak.size} x {peak.size} "
                f"in {str(peak.dtype).removeprefix('torch.')}"
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Count the tokens of the batch."""
        now = time.perf_counter()
        if self._since is not None:
            self._seconds += now - self._since
            lengths = [len(sentence) for sentence in data_batch["inputs"]]
            self._tokens += sum(lengths) * get_world_size()
            if self.peak_flops is not None:
                self._flops += sum(length * self._training_flops(runner, length) for length in lengths)
        self._since = now
        if self._seconds and self.every_n_train_iters(runner, self.interval):
            runner.message_hub.update_scalar("train/tokens_per_s", self._tokens / self._seconds)
            if self.peak_flops is not None:
                # Both are of one process: all have as many sentences.
                runner.message_hub.update_scalar("train/mfu", self._flops / self._seconds / self.peak_flops)
            self._tokens, self._flops, self._seconds = 0, 0.0, 0.0

    def before_test_epoch(self, runner: Runner) -> None:
        """Start the clock."""
        self._since, self._images = time.perf_counter(), 0

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Count the answers of the batch."""
        self._images += len(outputs) * get_world_size()
        rate = self._images / (time.perf_counter() - self._since)
        runner.message_hub.update_scalar("test/images_per_s", rate)

    def before_val(self, runner: Runner) -> None:
        """Stop the clock."""
        self._since = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Stop the clock."""
        self._since = None

    def _training_flops(self, runner: Runner, length: int) -> float:
        """Operations a token of a sentence of this length."""
        if length not in self._flops_per_token:
            model = unwrap_model(runner.model)
            teachers = (getattr(hook, "teacher", None) for hook in runner.hooks)
            teacher = next((teacher for teacher in teachers if isinstance(teacher, DeLVM)), None)
            self._flops_per_token[length] = training_flops_per_token(
                model.backbone.arch, length, model.num_embeddings, teacher and teacher.backbone.arch
            )
        return self._flops_per_token[length]


def _type_and_device(runner: Runner) -> tuple[torch.dtype, torch.device]:
    """The type that matrix products of a training step have, autocast considered, and where they are computed."""
    weight = next(parameter for parameter in runner.model.parameters() if parameter.requires_grad)
    probe = torch.ones(1, 1, dtype=weight.dtype, device=weight.device)
    with runner.optim_wrapper.optim_context(runner.model):
        return torch.mm(probe, probe).dtype, weight.device
