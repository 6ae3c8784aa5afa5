"""Linear layers for inference: several with the same input as one, laid out as the processor multiplies fastest."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delvm_mm.hardware import has_bfloat16

# oneDNN asks for how many rows to lay a weight out. Measured for 1 to 1792 rows, 16 serves all of them.
ROWS = 16
# Pieces of a weight for one row; any number from 2 to 32 took the same time.
PIECES = 16


class PackedLinear:
    """``y = x W^T + b`` without gradients, in a type of its own, with the outputs of several layers side by side.

    On a CPU the weights are copied into oneDNN's blocks: in float32 16 rows then take 0.6 of the time, a whole prompt
    0.8. A single row in float32 uses the layers' own weights: as a batch of pieces they are read at the speed of the
    memory, 0.6 of the time of a plain product.

    Args:
        layers: With the same input.
        dtype: Type of weight, input and output.
        blocks: Whether to use oneDNN's blocks on a CPU; a compiler wants plain weights. Defaults to True.
    """

    def __init__(self, *layers: nn.Linear, dtype: torch.dtype, blocks: bool = True) -> None:
        weight = torch.cat([layer.weight.detach() for layer in layers]).to(dtype)
        self.bias = None
        if layers[0].bias is not None:
            self.bias = torch.cat([layer.bias.detach() for layer in layers]).to(dtype)
        self.blocks = blocks and weight.device.type == "cpu" and _onednn(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if self.blocks else weight
        self._pieces = []
        if self.blocks and dtype == torch.float32:
            for layer in layers:
                own, pieces = layer.weight.detach().to(dtype), math.gcd(layer.out_features, PIECES)
                self._pieces.append(own.view(pieces, -1, own.shape[1]))

    @property
    def one_row_is_faster(self) -> bool:
        """Whether a single row is multiplied in another way than several."""
        return bool(self._pieces)

    def __call__(self, x: Tensor) -> Tensor:
        """Map ... x in to ... x out."""
        if not self.blocks:
            return F.linear(x, self.weight, self.bias)
        if self._pieces and x.numel() == x.shape[-1]:
            column = x.reshape(1, 1, -1).transpose(1, 2)
            out = [torch.bmm(piece, column.expand(len(piece), -1, -1)).flatten() for piece in self._pieces]
            out = torch.cat(out) if len(out) > 1 else out[0]
            return (out if self.bias is None else out + self.bias).view(*x.shape[:-1], -1)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def _onednn(dtype: torch.dtype) -> bool:
    if dtype != torch.float32 and not (dtype == torch.bfloat16 and has_bfloat16("cpu")):
        return False
    # The operators are those that PyTorch's own compiler uses on a CPU; they are no public interface.
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)
