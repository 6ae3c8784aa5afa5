"""A tiny training step measured on this CPU, beside what the formulas say of it."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from delvm_mm.engine.flops import training_flops_per_token
from delvm_mm.models import DeLVM
from footprint import num_parameters, training_footprint

STUDENT = dict(embed_dims=96, num_layers=4, num_heads=4, feedforward_channels=256)
TEACHER = dict(embed_dims=128, num_layers=3, num_heads=4, feedforward_channels=384)
BATCH, CONTEXT, CODES, CODEBOOK_DIMS = 4, 128, 128, 16
LOSS_CHUNK = 256  # tokens whose logits exist at a time


class Row(NamedTuple):
    """One quantity, by formula and as measured."""

    name: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        """Formula to measurement."""
        return self.predicted / self.measured


def check() -> list[Row]:
    """Compare all formulas with a step of a model of 0.5 million parameters."""
    model = build()
    weights = Row("trainable parameters", num_parameters(STUDENT, CODES, CODEBOOK_DIMS), count(model.parameters()))
    sum(model(tokens(), mode="loss").values()).backward()
    gradients = nbytes(parameter.grad for parameter in model.parameters())
    optimizer = training_optimizer(model)
    step(model, optimizer, tokens())
    footprint = expected()
    rows = [
        weights,
        Row("bytes of gradients", footprint.gradients, gradients),
        Row("bytes of optimizer state", footprint.optimizer, nbytes(optimizer_state(optimizer))),
    ]
    for precision in ("float32", "bfloat16"):
        footprint = expected(precision=precision)
        rows.append(
            Row(
                f"bytes kept for the backward pass, {precision}",
                footprint.activations + footprint.cast_weights,
                saved_bytes(model, precision),
            )
        )
    for precision in ("float32", "bfloat16"):
        for checkpointing in (False, True):
            name = f"peak bytes of a step, {precision}{', checkpointing' * checkpointing}"
            peak = peak_bytes(precision, checkpointing)
            rows.append(Row(name, expected(precision=precision, checkpointing=checkpointing).total, peak))
    for recompute in (False, True):
        name = f"operations of a step{', checkpointing' * recompute}"
        predicted = training_flops_per_token(STUDENT, CONTEXT, CODES, recompute=recompute, causal=False)
        rows.append(Row(name, predicted * BATCH * CONTEXT, counted_flops(recompute)))
    return rows


def build(arch: dict = STUDENT, checkpointing: bool = False) -> DeLVM:
    """A model with a random codebook in place of a tokenizer's."""
    torch.manual_seed(0)
    model = DeLVM(
        tokenizer=None,
        backbone=dict(type="LLaMA", arch=arch, max_positions=CONTEXT, with_cp=checkpointing),
        embedding=dict(type="CodebookEmbedding", codebook=torch.randn(CODES, CODEBOOK_DIMS)),
        head=dict(type="NextTokenHead", num_embeddings=CODES, chunk_tokens=LOSS_CHUNK),
    )
    return model.train()


def expected(**changes: Any) -> Any:
    """The formula's :class:`Footprint` of this step."""
    options = dict(precision="float32", codebook_dims=CODEBOOK_DIMS, loss_chunk=LOSS_CHUNK) | changes
    return training_footprint(STUDENT, BATCH, CONTEXT, CODES, **options)


def tokens() -> torch.Tensor:
    """The batch."""
    return torch.randint(CODES, (BATCH, CONTEXT), generator=torch.Generator().manual_seed(0))


class EmulatedOptimWrapper(OptimWrapper):
    """``AutocastOptimWrapper``, but on every CPU: memory is what counts here, not how slowly bfloat16 is emulated."""

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass in bfloat16."""
        with super().optim_context(model), autocast("bfloat16"):
            yield


def training_optimizer(model: nn.Module, precision: str = "float32") -> OptimWrapper:
    """MMEngine's wrapper with the published AdamW."""
    wrapper = dict(float32=OptimWrapper, bfloat16=EmulatedOptimWrapper)[precision]
    return wrapper(optimizer=torch.optim.AdamW(model.parameters(), lr=1e-4))


def step(model: DeLVM, optimizer: Any, batch: torch.Tensor) -> None:
    """One step, as MMEngine's loop does it."""
    model.train_step(dict(inputs=batch, data_samples=None), optimizer)


def saved_bytes(model: DeLVM, precision: str) -> int:
    """Distinct storages that autograd keeps of embedding and decoder, parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            kept[address] = tensor  # holding it keeps the address from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast(precision):
        model.backbone(model.embedding(tokens()))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def peak_bytes(precision: str, checkpointing: bool) -> int:
    """Most bytes that lived at once in a second step: weights, gradients, optimizer state, and what the step made."""
    model = build(checkpointing=checkpointing)
    optimizer, batch = training_optimizer(model, precision), tokens()
    step(model, optimizer, batch)
    standing = nbytes(model.parameters()) + nbytes(optimizer_state(optimizer))
    with LiveBytes() as live:
        step(model, optimizer, batch)
    return standing + live.peak


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run the operation and note what it made."""
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in given and storage not in self.seen:
                    size = storage.nbytes()
                    self.seen[storage] = size
                    self.now += size
                    weakref.finalize(storage, self._freed, size)
        self.peak = max(self.peak, self.now)
        return result

    def _freed(self, size: int) -> None:
        self.now -= size


def counted_flops(checkpointing: bool) -> int:
    """Operations of forward and backward pass that PyTorch counts, attention over all tokens."""
    model = build(checkpointing=checkpointing)
    # The backward pass of fused attention computes its scores again, which is no part of the formula.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens()).sum().backward()
    return counter.get_total_flops()


def autocast(precision: str) -> contextlib.AbstractContextManager:
    """Autocast on the CPU, or nothing."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()


def count(parameters: Iterator[nn.Parameter]) -> int:
    """Values of those that are trained."""
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)


def nbytes(tensors: Iterator[torch.Tensor]) -> int:
    """Bytes of tensors."""
    return sum(tensor.nbytes for tensor in tensors)


def optimizer_state(optimizer: Any) -> Iterator[torch.Tensor]:
    """Tensors of an optimizer's state."""
    return (value for state in optimizer.optimizer.state.values() for value in state.values() if torch.is_tensor(value))
