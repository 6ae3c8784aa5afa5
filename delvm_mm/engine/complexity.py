"""Parameters and multiply-adds of a model that reads images, by MMEngine's analysis."""

import logging
from math import prod
from typing import Any

import torch
from mmengine.analysis import FlopAnalyzer, parameter_count
from mmengine.analysis.jit_handles import get_shape
from mmengine.logging import MMLogger
from torch import nn


class _Scores(nn.Module):
    """A model in its mode 'tensor', whose one input is a batch of images: what can be traced."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        return self.model(images, mode="tensor") if hasattr(self.model, "backbone") else self.model(images)


def count_complexity(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Count parameters and multiply-adds of one image, those of attention's two products included.

    MMEngine alone has no count for ``scaled_dot_product_attention``; each of its products has L^2 C for L tokens of
    width C. A kernel that leaves out what causal attention does not see does half of them: that is not deducted.

    Args:
        model: A classifier or a backbone, on the CPU.
        shape: Channels, height and width of the image.

    Returns:
        ``params``, ``flops`` (multiply-adds), and ``by_operator``: operator -> multiply-adds.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)  # operators without a count are the element-wise ones
    try:
        analyzer = FlopAnalyzer(_Scores(model.eval()), (torch.rand(1, *shape),))
        analyzer.set_op_handle("aten::scaled_dot_product_attention", _attention)
        by_operator = dict(analyzer.by_operator())
    finally:
        logger.setLevel(level)
    return dict(params=parameter_count(model)[""], flops=sum(by_operator.values()), by_operator=by_operator)


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    query, key, value = (get_shape(each) for each in inputs[:3])
    return prod(query) * key[-2] + prod(query[:-1]) * prod(value[-2:])
