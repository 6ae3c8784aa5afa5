"""The decoding step as a CUDA graph: one launch a token instead of hundreds."""

from collections.abc import Callable

import torch
from torch import Tensor

from delvm_mm.generation.decoder import Decoder, SharedPrompt

WARM_UP = 3  # runs before the capture, in which kernels are compiled and libraries allocate


class CapturedStep:
    """A captured step with the cache, prompts, tokens and position that it reads, at addresses that stay.

    Args:
        step: ``decode_one_token``, compiled or not.
        decoder: The weights, on a CUDA device.
        batch: Rows.
        length: Tokens that the cache holds.
        prompts: Prompts of the shape that is to come.
    """

    def __init__(self, step: Callable, decoder: Decoder, batch: int, length: int, prompts: list[SharedPrompt]) -> None:
        device = decoder.table.device
        self.cache = decoder.new_cache(batch, length)
        self.prompts = [SharedPrompt(p.start, p.stop, decoder.new_cache(1, p.cache.max_length)) for p in prompts]
        self.load(prompts)
        self._tokens = torch.zeros(batch, dtype=torch.int64, device=device)
        self._input_pos = torch.zeros(1, dtype=torch.int64, device=device)

        def run() -> Tensor:
            return step(decoder, self._tokens, self._input_pos, length, self.cache, self.prompts)

        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads, such as a data loader that pins memory, may use the device meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._logits = run()

    def fits(self, batch: int, length: int, prompts: list[SharedPrompt]) -> bool:
        """Whether it was captured for these shapes."""
        return (self.cache.keys.shape[1], self.cache.max_length) == (batch, length) and [
            (p.start, p.stop, p.cache.max_length) for p in prompts
        ] == [(p.start, p.stop, p.cache.max_length) for p in self.prompts]

    def load(self, prompts: list[SharedPrompt]) -> list[SharedPrompt]:
        """Copy prompts to where the graph reads them, and return them as they lie there."""
        for own, given in zip(self.prompts, prompts, strict=True):
            own.cache.keys.copy_(given.cache.keys)
            own.cache.values.copy_(given.cache.values)
            own.cache.length = given.cache.length
        return self.prompts

    def __call__(self, tokens: Tensor, input_pos: Tensor, _: int) -> Tensor:
        """Logits B x K, valid until the next call."""
        self._tokens.copy_(tokens)
        self._input_pos.copy_(input_pos)
        self._graph.replay()
        return self._logits
