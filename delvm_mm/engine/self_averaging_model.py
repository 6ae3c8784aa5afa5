"""A model that averages its gradients itself, in one of several processes."""

from typing import Any

from mmengine import dist
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from delvm_mm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class SelfAveragingModel(nn.Module):
    """For models whose ``train_step`` averages gradients over processes, such as ``VQGANAdversarialTrainer``.

    DDP averages the gradients of one backward pass after each forward pass through it; a step with two optimizers, and
    gradients that are looked at before, does not fit that. All processes start with the weights of the first.

    Args:
        module: The model.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor.data)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the model."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """As the model."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> list:
        """As the model."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> list:
        """As the model."""
        return self.module.test_step(data)
