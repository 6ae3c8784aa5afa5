"""The key/value cache that lets a causal decoder continue a sequence without computing its beginning again."""

import torch
from torch import Tensor


class KVCache:
    """Preallocated keys and values of every layer, filled from the left.

    Memory: ``2 x num_layers x batch_size x num_heads x max_length x head_dim`` values of ``dtype``; :attr:`nbytes`
    states it.

    Args:
        num_layers: Number of decoder layers.
        batch_size: Number of sequences.
        num_heads: Attention heads of a layer.
        max_length: Most tokens that a sequence can hold.
        head_dim: Channels of one head.
        dtype: Type of keys and values. Defaults to float32.
        device: Where they live.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_heads: int,
        max_length: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        shape = (num_layers, batch_size, num_heads, max_length, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def max_length(self) -> int:
        """Most tokens that a sequence can hold."""
        return self.keys.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes that keys and values take together."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of new tokens in one layer, and return those of all tokens so far.

        :attr:`length` stays until :meth:`advance`, so that every layer writes to the same place.

        Args:
            layer: Index of the layer.
            keys: B x heads x L x head_dim, of the L new tokens.
            values: The same shape.

        Returns:
            Views of B x heads x (length + L) x head_dim.

        Raises:
            ValueError: If the cache has no room for L more tokens.
        """
        end = self.length + keys.shape[2]
        if end > self.max_length:
            raise ValueError(
                f"the cache holds {self.max_length} tokens and was asked for {end}; make it with a larger max_length"
            )
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, num_tokens: int) -> None:
        """Count ``num_tokens`` as stored, after every layer has appended them."""
        self.length += num_tokens
