"""Passes of few tokens on a CPU in one call of compiled code (``native.c``), instead of hundreds of operators.

The code is compiled when it is first needed, by gcc or what ``CC`` names, and kept in the user's cache. Without a
compiler, or with ``DELVM_MM_NATIVE=0``, there is none, and the operators of PyTorch do the same.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from delvm_mm.generation.cache import KVCache

NATIVE_VARIABLE = "DELVM_MM_NATIVE"
SOURCE = Path(__file__).with_name("native.c")
FLAGS = ["-std=gnu11", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared"]
COMPILE_SECONDS = 60
DTYPES = (torch.float32, torch.bfloat16)


class _Matrix(ctypes.Structure):
    _fields_ = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p), ("rows", ctypes.c_int64)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("attention_norm", "mlp_norm")],
        *[(name, _Matrix) for name in ("query", "key", "value", "out", "gate", "up", "down")],
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        *[(name, ctypes.c_void_p) for name in ("table", "norm", "cos", "sin")],
        ("head", _Matrix),
        *[(name, ctypes.c_int64) for name in ("num_layers", "width", "hidden", "heads", "groups", "dims")],
        ("eps", ctypes.c_float),
        ("is_bf16", ctypes.c_int32),
    ]


class _Cache(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("keys", "values")],
        *[(name, ctypes.c_int64) for name in ("layer_stride", "room")],
    ]


class _Row(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("first", "last", "start", "prompt")],
        *[(name, _Cache) for name in ("own", "before")],
    ]


@dataclass(frozen=True)
class RowPass:
    """The tokens that a pass reads of one row.

    Attributes:
        row: Of the cache.
        count: How many, at least one.
        start: Place of the first in the cache.
        prompt: Cache (batch 1) of the prompt before the row's own tokens; rows of one prompt stand side by side.
    """

    row: int
    count: int
    start: int
    prompt: KVCache | None = None


class NativeDecoder:
    """The weights of a decoder as compiled code wants them: those of the layers themselves where the type is the same.

    Args:
        backbone: A ``LLaMA``.
        head: With a linear ``projection``.
        table: K x C, contiguous, float32 or bfloat16; all others get its type.
        cos: Rotary table, positions x head_dim, float32.
        sin: The same, its first half negated.

    Attributes:
        weight_bytes: Of all matrices, which a pass reads.

    Raises:
        RuntimeError: There is no compiled code, see :func:`has_native`.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, table: Tensor, cos: Tensor, sin: Tensor) -> None:
        self._library = _library()
        if self._library is None:
            raise RuntimeError("there is no compiled code for this machine; use the operators of PyTorch")
        self._kept: list[Tensor] = []  # what pointers point to
        self._dtype = table.dtype
        self.weight_bytes = 0
        layers = (_Layer * len(backbone.layers))()
        for index, layer in enumerate(backbone.layers):
            attention, mlp = layer.self_attn, layer.mlp
            linears = attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
            linears += mlp.gate_proj, mlp.up_proj, mlp.down_proj
            norms = (self._vector(norm.weight) for norm in (layer.input_layernorm, layer.post_attention_layernorm))
            layers[index] = _Layer(*norms, *map(self._matrix, linears))
        self._model = _Model(
            layers,
            *(self._pointer(table), self._vector(backbone.norm.weight), self._pointer(cos), self._pointer(sin)),
            self._matrix(head.projection),
            *(len(layers), table.shape[1], mlp.gate_proj.out_features),
            *(backbone.num_heads, backbone.num_kv_heads, cos.shape[1]),
            *(backbone.norm.eps, table.dtype == torch.bfloat16),
        )

    def begin(self, rows: Sequence[RowPass], cache: KVCache) -> "NativePass":
        """A pass over some tokens of rows of a cache, which is of the table's type and filled up to their ``start``."""
        return NativePass(self, rows, cache)

    def _pointer(self, tensor: Tensor) -> int:
        self._kept.append(tensor.detach().contiguous())
        return self._kept[-1].data_ptr()

    def _vector(self, weight: Tensor) -> int:
        return self._pointer(weight.detach().to(self._dtype).float())

    def _matrix(self, linear: nn.Linear) -> _Matrix:
        bias = None if linear.bias is None else self._vector(linear.bias)
        self.weight_bytes += linear.weight.numel() * self._dtype.itemsize
        return _Matrix(self._pointer(linear.weight.detach().to(self._dtype)), bias, linear.out_features)


class NativePass:
    """A pass of T tokens, row by row: all of it, or the attention of its layers; see :meth:`NativeDecoder.begin`."""

    def __init__(self, decoder: NativeDecoder, rows: Sequence[RowPass], cache: KVCache) -> None:
        self._decoder, self._model, self._kept = decoder, decoder._model, (rows, cache)
        passes, first, longest = (_Row * len(rows))(), 0, 0
        for index, row in enumerate(rows):
            before = row.prompt.length if row.prompt else 0
            prompt = _cache_of(row.prompt, 0) if before else _Cache()
            passes[index] = _Row(first, first + row.count, row.start, before, _cache_of(cache, row.row), prompt)
            first += row.count
            longest = max(longest, before + row.start + row.count)
        self._num_tokens, self._longest = first, longest
        self._head = ctypes.byref(self._model), passes, ctypes.c_int64(len(rows))
        self._tail = ctypes.c_int64(longest), torch.get_num_threads()

    def decode(self, tokens: Tensor) -> Tensor:
        """Read tokens (int64, T), and keep keys and values; float32, T x K, logits of those that follow."""
        model, count = self._model, self._num_tokens
        packed = (model.heads + 2 * model.groups) * model.dims
        each = 2 * model.width + max(2 * model.hidden, packed) + model.heads * (3 * model.dims + self._longest)
        tokens, scratch, logits = tokens.contiguous(), torch.empty(count * each), torch.empty(count, model.head.rows)
        pointers = (ctypes.c_void_p(x.data_ptr()) for x in (tokens, logits, scratch))
        self._decoder._library.delvm_decode(*self._head, *pointers, *self._tail)
        return logits

    def attend(self, layer: int, packed: Tensor) -> Tensor:
        """Only the attention of a layer; its keys and values are kept.

        Args:
            layer: Its index.
            packed: T x ((H + 2 G) D), query, key and value side by side as they are projected, before rotation.

        Returns:
            float32, T x (H D).
        """
        model, count = self._model, self._num_tokens
        packed = packed.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        scratch = torch.empty(count * model.heads * (2 * model.dims + self._longest))
        out = torch.empty(count, model.heads * model.dims)
        pointers = (ctypes.c_void_p(x.data_ptr()) for x in (packed, out, scratch))
        self._decoder._library.delvm_attend(*self._head, ctypes.c_int64(layer), *pointers, *self._tail)
        return out


def has_native(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether there is compiled code for a type on a device; the first call compiles it, which takes seconds."""
    return device.type == "cpu" and dtype in DTYPES and _library() is not None


def _cache_of(cache: KVCache, row: int) -> _Cache:
    _, batch, groups, room, dims = cache.keys.shape
    offset = row * groups * room * dims * cache.keys.element_size()
    return _Cache(cache.keys.data_ptr() + offset, cache.values.data_ptr() + offset, batch * groups * room, room)


@functools.cache
def _library() -> ctypes.CDLL | None:
    if platform.system() != "Linux" or os.environ.get(NATIVE_VARIABLE) == "0":
        return None
    try:
        return ctypes.CDLL(str(compiled(SOURCE)))
    except (OSError, subprocess.SubprocessError):
        return None


def compiled(source: Path) -> Path:
    """Compile a C file, unless the user's cache has it from before, by the same compiler for such a processor.

    Args:
        source: The file.

    Returns:
        The shared library.

    Raises:
        FileNotFoundError: No compiler; with no place to keep the library another OSError.
        subprocess.SubprocessError: The compiler refuses, or does not come to an end.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or ["gcc"]
    path = shutil.which(compiler[0])
    if path is None:
        raise FileNotFoundError(f"{compiler[0]}: no such compiler")
    made_of = source.read_bytes(), repr((path, compiler[1:], FLAGS, platform.machine(), _features())).encode()
    name = f"{source.stem}-{hashlib.sha256(b''.join(made_of)).hexdigest()[:16]}.so"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "delvm_mm"
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            made = Path(temporary) / name
            command = [path, *compiler[1:], *FLAGS, "-o", str(made), str(source), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_SECONDS)
            made.replace(folder / name)  # whole or not at all, whoever else compiles it
    return folder / name


def _features() -> list[str]:
    # Of the processor, as home folders are shared between machines.
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return sorted({line for line in lines if line.lower().startswith(("flags", "features", "model name"))})
