"""Training a model that is too large for one device: its weights, gradients and optimizer state in shards."""

import contextlib
import inspect
from typing import Any

import torch
from mmengine.dist import broadcast, get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from delvm_mm.models import DeLVM
from delvm_mm.registry import MODEL_WRAPPERS

try:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from torch.distributed.tensor import DTensor, distribute_tensor
except ImportError:  # before torch 2.6
    fully_shard, DTensor = None, ()


@MODEL_WRAPPERS.register_module()
class FullyShardedDeLVM(nn.Module):
    """MMEngine's model wrapper around PyTorch's ``fully_shard`` (FSDP2), for a :class:`DeLVM`.

    Each process keeps its part of the weights, gradients and optimizer state; each decoder layer is put together for
    the moment in which it computes. Every process starts from the weights of the first. The frozen tokenizer and a
    :class:`DistillationHook`'s teacher stay whole. Checkpoints need :class:`ShardedCheckpointHook`, which
    ``delvm train`` adds.

    Args:
        module: The model, whole, on its device.
        param_dtype: Type in which weights are sent and computed with, 'bfloat16'; forward passes then
            run under autocast too. The shards themselves stay in float32. By default they are sent as they are.
        reduce_dtype: Type in which gradients are summed. Defaults to 'float32'.
        reshard_after_forward: Whether a layer is put away between its forward and its backward pass, which
            costs sending it twice. Defaults to True.
        sync_every_batch: Whether gradients are reduced to shards after each batch of an accumulated step. False
            sends less and keeps a whole gradient on every device. Defaults to True.

    Raises:
        ValueError: If the model is another one, or torch is older than 2.7.
        RuntimeError: If there is no process group.

    Examples:
        >>> model_wrapper_cfg = dict(type='delvm_mm.FullyShardedDeLVM', param_dtype='bfloat16')
    """

    def __init__(
        self,
        module: DeLVM,
        param_dtype: str | None = None,
        reduce_dtype: str = "float32",
        reshard_after_forward: bool = True,
        sync_every_batch: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(module, DeLVM):
            raise ValueError(f"FullyShardedDeLVM wraps a DeLVM, the model is a {type(module).__name__}")
        if fully_shard is None or "ignored_params" not in inspect.signature(fully_shard).parameters:
            raise ValueError(f"FullyShardedDeLVM needs torch 2.7 or newer, this is {torch.__version__}; use DDP")
        if not torch.distributed.is_initialized():
            raise RuntimeError("FullyShardedDeLVM needs a process group: start with torchrun and --launcher pytorch")
        self.param_dtype = _dtype("param_dtype", param_dtype)
        self.sync_every_batch = sync_every_batch
        module.init_weights()
        for value in module.state_dict().values():
            broadcast(value)
        frozen = set() if module.tokenizer is None else set(module.tokenizer.parameters())
        device = next(module.backbone.parameters()).device
        options = dict(
            mesh=torch.distributed.init_device_mesh(device.type, (get_world_size(),)),
            mp_policy=MixedPrecisionPolicy(self.param_dtype, _dtype("reduce_dtype", reduce_dtype)),
        )
        for layer in module.backbone.layers:
            fully_shard(layer, reshard_after_forward=reshard_after_forward, **options)
        # The rest, embedding and head, is small, and needed first when the backward pass begins.
        fully_shard(module, reshard_after_forward=False, ignored_params=frozen, **options)
        self.module = module
        self._device_type = device.type
        self._leave_out_shards = False
        module.init_weights = self._pretend_to_initialize
        module._register_state_dict_hook(self._shards_left_out)
        module.register_load_state_dict_pre_hook(_cut_into_shards)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As of the model itself."""
        with self._autocast():
            return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Forward, backward and, at the last batch of a step, the optimizer.

        Args:
            data: A batch of the loader.
            optim_wrapper: Built on this model.

        Returns:
            Values to log.
        """
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, training=True)
            losses = self(**data, mode="loss")
        loss, log_vars = self.module.parse_losses(losses)
        # Read in the backward pass, unlike DDP's flag, which the forward pass reads.
        self.module.set_requires_gradient_sync(self.sync_every_batch or optim_wrapper.should_sync())
        optim_wrapper.update_params(loss)
        return log_vars

    def val_step(self, data: Any) -> list:
        """Scores of sentences; every process must take part."""
        with self._autocast():
            return BaseModel.val_step(self.module, data)

    test_step = val_step

    def _autocast(self) -> contextlib.AbstractContextManager:
        # Weights come out of their shards in param_dtype; what meets them, such as code vectors, must be of that type.
        if self.param_dtype in (None, torch.float32):
            return contextlib.nullcontext()
        return torch.autocast(self._device_type, dtype=self.param_dtype)

    def _pretend_to_initialize(self) -> None:
        # MMEngine's runner initializes after wrapping and then broadcasts every value of the state dict from the first
        # process. Both were done before the weights were cut, and shards must not be made equal.
        self._leave_out_shards = True

    def _shards_left_out(self, module: nn.Module, state_dict: dict[str, Tensor], prefix: str, _: Any) -> None:
        if self._leave_out_shards:
            self._leave_out_shards = False
            for key in [key for key, value in state_dict.items() if isinstance(value, DTensor)]:
                del state_dict[key]


def is_fully_sharded(model: nn.Module) -> bool:
    """Whether a runner's model is a :class:`FullyShardedDeLVM`."""
    return isinstance(model, FullyShardedDeLVM)


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut and placed as another tensor is; nothing is sent."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def whole(value: Any) -> Any:
    """A tensor put together from its shards, on the CPU; every process must call it."""
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _cut_into_shards(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, parameter in module.named_parameters():
        if prefix + name in state_dict:
            state_dict[prefix + name] = shard_like(state_dict[prefix + name], parameter)


def _dtype(argument: str, name: str | None) -> torch.dtype | None:
    if name not in (None, "float32", "bfloat16"):
        raise ValueError(f"FullyShardedDeLVM.{argument} is {name!r}, expected 'bfloat16' or 'float32'")
    return None if name is None else getattr(torch, name)
