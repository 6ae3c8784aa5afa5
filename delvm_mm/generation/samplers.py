"""How the next token is chosen from its logits."""

from collections.abc import Callable

import torch
from torch import Tensor

from delvm_mm.registry import TASK_UTILS


@TASK_UTILS.register_module()
class TokenSampler:
    """Greedy choice, or a draw after temperature, top-k and top-p (nucleus) filtering.

    The filters apply in the order temperature, top-k, top-p, as in Hugging Face ``transformers``. The authors' demo
    draws with ``temperature=0.1, top_p=0.75``.

    Args:
        temperature: Divides the logits; 0 is the greedy choice. Defaults to 0.
        top_k: Keep the k most probable tokens.
        top_p: Keep the smallest set of tokens whose probability reaches p, in (0, 1]
            (Holtzman et al., 2020).
        seed: Seed of a generator of its own; the same seed and inputs give the same tokens. By
            default PyTorch's global generator is used.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> sampler = TokenSampler(temperature=0.1, top_p=0.75, seed=0)
        >>> sampler(torch.randn(2, 8192)).shape
        torch.Size([2])
    """

    def __init__(
        self,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> None:
        if temperature < 0:
            raise ValueError(f"temperature is {temperature}, expected 0 (greedy) or more")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}, expected 1 or more, or None to keep all tokens")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p is {top_p}, expected a probability in (0, 1], or None to keep all tokens")
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.seed = seed
        self._generator: torch.Generator | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Choose one token a row.

        Args:
            logits: B x K.

        Returns:
            int64, B.
        """
        return self.choose(logits, self.noise(*logits.shape, logits.device))

    def noise(self, rows: int, num_codes: int, device: torch.device) -> Tensor | None:
        """The random numbers of one token in every row, drawn from the generator in turn.

        Args:
            rows: B.
            num_codes: K.
            device: Of the logits.

        Returns:
            float32, B x K; None for the greedy choice, which needs none.
        """
        if self.temperature == 0:
            return None
        times = torch.empty(rows, num_codes, device=device)
        return times.exponential_(generator=self._generator_on(device))

    def choose(self, logits: Tensor, noise: Tensor | None) -> Tensor:
        """Choose one token a row with given random numbers: the same tokens in whatever order rows are chosen.

        Args:
            logits: B x K.
            noise: B x K of :meth:`noise`.

        Returns:
            int64, B.
        """
        if noise is None:
            return logits.argmax(dim=-1)
        probability = self.filter(logits.float() / self.temperature).softmax(dim=-1)
        # The Gumbel-max trick, in its exponential form: of exponential times with these rates, the smallest is token
        # k's with its probability. Unlike torch.multinomial, this does not make the host wait for the device.
        return (probability / noise).argmax(dim=-1)

    def filter(self, logits: Tensor) -> Tensor:
        """Set the logits of the tokens that top-k and top-p leave out to minus infinity (B x K)."""
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            kth = logits.topk(self.top_k, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < kth, float("-inf"))
        if self.top_p is not None and self.top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True)
            probability = ordered.softmax(dim=-1)
            # A token stays if those before it have not reached top_p yet; so the first always stays.
            dropped = probability.cumsum(dim=-1) - probability >= self.top_p
            logits = logits.masked_fill(dropped.scatter(-1, order, dropped), float("-inf"))
        return logits

    def _generator_on(self, device: torch.device) -> torch.Generator | None:
        if self.seed is None:
            return None
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self.seed)
        return self._generator


class CodeSampler:
    """The choice of another sampler among the first ids, the codes; special ids behind them are never written.

    Args:
        sampler: ``logits B x K -> tokens B``.
        num_codes: How many ids are codes.
    """

    def __init__(self, sampler: Callable[[Tensor], Tensor], num_codes: int) -> None:
        self.sampler = sampler
        self.num_codes = num_codes

    def __call__(self, logits: Tensor) -> Tensor:
        """Choose one token a row of logits B x K; returns int64, B."""
        return self.sampler(logits[:, : self.num_codes])

    def noise(self, rows: int, _: int, device: torch.device) -> Tensor | None:
        """As :meth:`TokenSampler.noise`, of the codes alone."""
        return self.sampler.noise(rows, self.num_codes, device)

    def choose(self, logits: Tensor, noise: Tensor | None) -> Tensor:
        """As :meth:`TokenSampler.choose`, of the codes alone."""
        return self.sampler.choose(logits[:, : self.num_codes], noise)


def is_separable(sampler: Callable[[Tensor], Tensor]) -> bool:
    """Whether a sampler's random numbers can be drawn apart from its choices: a :class:`TokenSampler`'s can."""
    inner = sampler.sampler if isinstance(sampler, CodeSampler) else sampler
    return isinstance(inner, TokenSampler) and type(inner).__call__ is TokenSampler.__call__
