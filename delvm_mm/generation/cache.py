"""The key/value cache that lets a causal decoder continue a sequence without computing its beginning again."""

import torch


class KVCache:
    """Preallocated keys and values of every layer, filled from the left.

    ``keys`` and ``values`` are layers x batch x heads x max_length x head_dim; ``length`` counts the tokens of a prompt
    that :func:`~delvm_mm.generation.decoder.prefill` has written.

    Memory: ``2 x num_layers x batch_size x num_heads x max_length x head_dim`` values of ``dtype``; :attr:`nbytes`
    states it.

    Args:
        num_layers: Number of decoder layers.
        batch_size: Number of sequences.
        num_heads: Heads of keys and values of a layer; queries may have more.
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
