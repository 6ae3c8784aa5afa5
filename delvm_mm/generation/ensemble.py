"""Several prompts that write one answer: their next-token distributions are averaged at every token."""

from collections.abc import Callable

from torch import Tensor

Sampler = Callable[[Tensor], Tensor]
OnToken = Callable[[int, Tensor], None]


def average_rows(sampler: Sampler, on_token: OnToken | None, size: int) -> tuple[Sampler, OnToken | None]:
    """Let every ``size`` rows in turn write the same tokens, chosen from the mean of their distributions.

    The mean is that of the probabilities, a mixture, in float32; what the sampler is given is its logarithm.

    Args:
        sampler: ``logits N x K -> tokens N``, N ensembles.
        on_token: Called with (index, tokens N), or None.
        size: Rows E of an ensemble.

    Returns:
        A sampler of logits (N·E) x K whose tokens N·E are equal within an ensemble, and what calls ``on_token`` with
        one token of each.
    """

    def choose(logits: Tensor) -> Tensor:
        probability = logits.float().softmax(-1).unflatten(0, (-1, size)).mean(1)
        return sampler(probability.log()).repeat_interleave(size)

    def report(index: int, tokens: Tensor) -> None:
        on_token(index, tokens[::size])

    return choose, None if on_token is None else report
