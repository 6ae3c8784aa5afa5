"""Memory of a training step, by formula; ``tools/analysis/estimate.py --check`` compares it with what is measured.

Counted, in bytes on one device, are

* weights, gradients and AdamW's two moments, all in float32, as MMEngine's wrappers keep them; with 'fsdp' the device's
  share of them, and two layers, a layer's gradient and what is outside of the layers as a whole;
* with 'ddp' on several devices, the buckets in which gradients travel, a second copy of them;
* in 'bfloat16' (autocast), copies of the matrices that live from the forward to the backward pass;
* activations that the backward pass needs: :func:`layer_activation_bytes`. With checkpointing, the input of each layer
  and everything of one layer;
* the loss: logits of the tokens that it takes at once, and the gradients of the head and of its input, which it
  computes with its value;
* a frozen teacher and a frozen tokenizer.

The sum is an upper bound, as gradients grow while activations shrink. It leaves out the allocator's gaps, the device's
own context (about 1 GiB on a GPU) and short-lived results: some of the memory should stay free.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from delvm_mm.models.backbones.llama import resolve_arch

Arch = str | Mapping[str, int]
FLOAT32, BFLOAT16 = 4, 2
BYTES = dict(float32=FLOAT32, bfloat16=BFLOAT16)
STRATEGIES = ("ddp", "fsdp")
LOGIT_BYTES = dict(alone=12, distilled=28)
"""Of each code and token of a chunk: logits, logarithms of softmax and gradients, with a teacher its own too."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes on one device, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    communication: int = 0
    cast_weights: int = 0
    activations: int = 0
    loss: int = 0
    teacher: int = 0
    tokenizer: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, name) for name in self.names())

    @classmethod
    def names(cls) -> list[str]:
        """Names of the parts."""
        return [field.name for field in fields(cls)]


def training_footprint(
    arch: Arch,
    batch: int,
    context: int,
    num_embeddings: int,
    *,
    precision: str = "bfloat16",
    checkpointing: bool = False,
    loss_chunk: int = 2048,
    teacher: Arch | None = None,
    teacher_precision: str = "float32",
    tokenizer_parameters: int = 0,
    strategy: str = "ddp",
    num_devices: int = 1,
    codebook_dims: int = 64,
) -> Footprint:
    """Memory of a training step on each of some devices.

    Args:
        arch: The decoder's shape, as for :class:`~delvm_mm.models.LLaMA`.
        batch: Sentences on a device at once.
        context: Tokens of a sentence.
        num_embeddings: Codes K that the head chooses from.
        precision: 'float32', or 'bfloat16' for autocast.
        checkpointing: Whether layers are computed again in the backward pass.
        loss_chunk: Tokens whose logits exist at a time, ``chunk_tokens`` of the head.
        teacher: Shape of a teacher beside the student, whole on each device.
        teacher_precision: Of the teacher's weights.
        tokenizer_parameters: Of a frozen tokenizer in float32.
        strategy: 'ddp' or 'fsdp'.
        num_devices: Devices that train together.
        codebook_dims: Width of the codebook's vectors that are embedded.

    Returns:
        Bytes.

    Raises:
        ValueError: If a name is unknown, a number is not positive, or a shape is impossible.
    """
    if precision not in BYTES or teacher_precision not in BYTES:
        raise ValueError(f"precision must be one of {', '.join(BYTES)}, got {precision!r} and {teacher_precision!r}")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
    if min(batch, context, num_devices, num_embeddings) < 1:
        raise ValueError(
            f"expected positive numbers, got batch {batch}, context {context}, {num_devices} devices and "
            f"{num_embeddings} codes"
        )
    parameters = num_parameters(arch, num_embeddings, codebook_dims)
    tokens = batch * context
    element = BYTES[precision]
    share = num_devices if strategy == "fsdp" else 1
    width = resolve_arch(arch)["embed_dims"]
    logits = LOGIT_BYTES["alone" if teacher is None else "distilled"] * min(tokens, loss_chunk) * num_embeddings
    parts = dict(
        weights=FLOAT32 * parameters // share,
        gradients=FLOAT32 * parameters // share,
        optimizer=2 * FLOAT32 * parameters // share,
        activations=activation_bytes(arch, batch, context, precision, checkpointing, codebook_dims),
        loss=logits + element * tokens * width + FLOAT32 * num_embeddings * width,
        tokenizer=FLOAT32 * tokenizer_parameters,
    )
    if teacher is not None:
        parts["teacher"] = BYTES[teacher_precision] * num_parameters(teacher, num_embeddings, codebook_dims)
    if strategy == "fsdp":
        layer = _layer_parameters(arch)
        outside = parameters - resolve_arch(arch)["num_layers"] * layer
        # Two layers are gathered, as one comes while the other works, and the gradient of one waits to be reduced.
        parts["communication"] = element * (2 * layer + outside) + FLOAT32 * layer
    else:
        parts["communication"] = FLOAT32 * parameters if num_devices > 1 else 0
        if precision == "bfloat16":
            parts["cast_weights"] = BFLOAT16 * _cast_weights(arch)
    return Footprint(**parts)


def num_parameters(arch: Arch, num_embeddings: int, codebook_dims: int = 64) -> int:
    """Trainable parameters of a :class:`~delvm_mm.models.DeLVM` with a ``CodebookEmbedding``."""
    shape = resolve_arch(arch)
    width = shape["embed_dims"]
    return shape["num_layers"] * _layer_parameters(arch) + width + width * (num_embeddings + codebook_dims)


def layer_activation_bytes(arch: Arch, precision: str = "bfloat16") -> int:
    """What autograd keeps of one :class:`~delvm_mm.models.backbones.llama.DecoderLayer`, in bytes a token."""
    shape = resolve_arch(arch)
    width, wide, heads = shape["embed_dims"], shape["feedforward_channels"], shape["num_heads"]
    element = BYTES[precision]
    norm = _norm_bytes(width, precision)
    # The norm's output: once for q, k, v and once for gate, up; under autocast each of the five converts it anew.
    inputs = (2 if precision == "float32" else 5) * element * width
    # Query, key, value, the output, and the logarithm of softmax's sum; keys and values are there for every head.
    attention = 4 * element * heads * _head_dim(shape) + FLOAT32 * heads
    swiglu = 2 * element * wide  # gate and up
    return 2 * norm + inputs + attention + swiglu


def activation_bytes(
    arch: Arch,
    batch: int,
    context: int,
    precision: str = "bfloat16",
    checkpointing: bool = False,
    codebook_dims: int = 64,
) -> int:
    """What autograd keeps of embedding, decoder and final norm, in bytes; arguments as above."""
    shape = resolve_arch(arch)
    width, layers = shape["embed_dims"], shape["num_layers"]
    element = BYTES[precision]
    layer = layer_activation_bytes(arch, precision)
    of_layers = layers * element * width + layer if checkpointing else layers * layer
    outside = element * codebook_dims + _norm_bytes(width, precision)
    rotary_tables = 2 * context * _head_dim(shape) * element
    return batch * context * (of_layers + outside) + rotary_tables


def _norm_bytes(width: int, precision: str) -> int:
    # The input, and a scale in float32.
    return BYTES[precision] * width + FLOAT32


def _layer_parameters(arch: Arch) -> int:
    # Beside the matrices, biases of query, key, value and output, and two norms.
    shape = resolve_arch(arch)
    return _layer_matrices(arch) + sum(_attention_widths(shape)) + 3 * shape["embed_dims"]


def _cast_weights(arch: Arch) -> int:
    # SwiGLU's second matrix is converted again in the backward pass.
    shape = resolve_arch(arch)
    return shape["num_layers"] * (_layer_matrices(arch) - shape["embed_dims"] * shape["feedforward_channels"])


def _layer_matrices(arch: Arch) -> int:
    shape = resolve_arch(arch)
    query, key, value = _attention_widths(shape)
    return shape["embed_dims"] * (2 * query + key + value + 3 * shape["feedforward_channels"])


def _head_dim(shape: dict[str, int]) -> int:
    return shape.get("head_dim", shape["embed_dims"] // shape["num_heads"])


def _attention_widths(shape: dict[str, int]) -> tuple[int, int, int]:
    """Channels of all queries, keys and values of a token."""
    keys = _head_dim(shape) * shape.get("num_kv_heads", shape["num_heads"])
    return _head_dim(shape) * shape["num_heads"], keys, keys
