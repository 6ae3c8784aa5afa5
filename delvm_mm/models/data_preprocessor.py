"""Batches from the loader to what the model reads: stacked, on the device, images as floats in [0, 1]."""

from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from delvm_mm.models.tokenizers.images import to_float
from delvm_mm.registry import MODELS


@MODELS.register_module()
class VisualSentencePreprocessor(BaseDataPreprocessor):
    """Stack token sentences (int64, L each) or images (uint8, ... x 3 x H x W each) of a batch.

    Images become float32 in [0, 1]; there is no mean or standard deviation to take off. Tokens stay as they are.

    Args:
        non_blocking: Copy to the device without waiting for it; a copy is no slower for it and a loader with
            ``pin_memory`` gains. Defaults to True.

    Raises:
        ValueError: If the samples of a batch differ in shape.
    """

    def __init__(self, non_blocking: bool = True) -> None:
        super().__init__(non_blocking)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare one batch: ``dict(inputs=..., data_samples=...)`` in and out."""
        data = self.cast_data(data)
        inputs = data["inputs"]
        if not isinstance(inputs, Tensor):
            shapes = {tuple(sample.shape) for sample in inputs}
            if len(shapes) > 1:
                raise ValueError(
                    f"the samples of a batch have the shapes {sorted(shapes)}; give every image of a batch the same "
                    "size and every prompt the same number of pairs"
                )
            inputs = torch.stack(list(inputs))
        return dict(inputs=to_float(inputs), data_samples=data.get("data_samples"))
