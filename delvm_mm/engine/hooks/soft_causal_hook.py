"""From bidirectional to causal attention over the first epochs of training a ``VisionLLaMA``."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class SoftCausalHook(Hook):
    """Lower ``bidirectional_share`` linearly from 1, all see all, to 0, causal.

    The schedule of iLLaMA (Wang et al., 2024, arXiv 2404.06773: linear over 25 of 300 epochs). There the attention
    weights are multiplied by the share after the softmax; here the share is inside it, so that weights always sum to 1
    and both ends are exactly bidirectional and causal attention.

    Args:
        end: The epoch, or step, from which attention is causal.
        begin: The epoch, or step, until which it is bidirectional. Defaults to 0.
        by_epoch: Whether ``begin`` and ``end`` are epochs; the share falls with every step in any case.
            Defaults to True.

    Raises:
        ValueError: If not 0 <= ``begin`` < ``end``; before training, if the model has no attention to blend.
    """

    def __init__(self, end: int, begin: int = 0, by_epoch: bool = True) -> None:
        if not 0 <= begin < end:
            raise ValueError(f"SoftCausalHook: begin is {begin} and end {end}, expected 0 <= begin < end")
        self.begin, self.end, self.by_epoch = begin, end, by_epoch
        self._backbones: list[nn.Module] = []

    def before_train(self, runner: Runner) -> None:
        """Find the backbones whose attention is blended."""
        modules = unwrap_model(runner.model).modules()
        self._backbones = [module for module in modules if getattr(module, "attention", None) == "soft"]
        if not self._backbones:
            raise ValueError(
                "SoftCausalHook found no VisionLLaMA with attention='soft'; set it, or leave the hook out of the config"
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the share of this step."""
        per_unit = len(runner.train_dataloader) if self.by_epoch else 1
        begin, end = self.begin * per_unit, self.end * per_unit
        share = min(max((end - runner.iter) / (end - begin), 0.0), 1.0)
        for backbone in self._backbones:
            backbone.bidirectional_share.fill_(share)
        runner.message_hub.update_scalar("train/bidirectional_share", share)
