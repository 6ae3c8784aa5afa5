"""One answer, row by row: the model writes in a thread, and what it has written so far can be looked at."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from delvm_mm.apis import DeLVMInferencer

__all__ = ["AnswerStep", "Stopped", "stream_answer"]

PREVIEW_SHARE = 0.25  # of the time, at most, may go into images of unfinished answers


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The answer was stopped."""


@dataclass(frozen=True)
class AnswerStep:
    """An answer so far, or, with ``done``, the whole.

    Attributes:
        image: uint8, S x S x 3; gray where nothing is written yet.
        rows: Whole rows of tokens that are written.
        tokens: Tokens that are written.
        seconds: Since the beginning.
        overlay: What was read from the answer, over the query; None before the end and for restored images.
        result: What the inferencer returned, at the end.
    """

    image: np.ndarray
    rows: int
    tokens: int
    seconds: float
    overlay: np.ndarray | None = None
    result: dict[str, Any] | None = None

    @property
    def done(self) -> bool:
        """Whether this is the whole answer."""
        return self.result is not None


def stream_answer(
    inferencer: DeLVMInferencer,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    query: np.ndarray,
    task: str | None,
    stop: threading.Event,
    **options: Any,
) -> Iterator[AnswerStep]:
    """Answer a query, and yield what is written after each row of tokens.

    Rows are left out where showing them all would take more than a quarter of the time. Closing the generator stops
    the model at the next token.

    Args:
        inferencer: The model.
        pairs: Image and label, uint8, H x W x 3. None at all: the image that follows the query alone, which says what
            the model draws without being told what is asked for.
        query: uint8, H x W x 3.
        task: What to read from the answer, or None.
        stop: Set it to stop.
        **options: See :class:`AnswerOptions`.

    Yields:
        What is written so far; the last one has the whole answer.

    Raises:
        Stopped: ``stop`` was set.
        ValueError: What the inferencer raises.
    """
    generator = inferencer.generator
    columns = generator.grid[1]
    written: list[torch.Tensor] = []
    steps: queue.Queue[AnswerStep | BaseException] = queue.Queue()
    begin = time.perf_counter()
    next_preview = 0.0

    def on_token(index: int, tokens: torch.Tensor) -> None:
        nonlocal next_preview
        if stop.is_set():
            raise Stopped
        written.append(tokens[0].clone())  # the engine may use its memory again
        now = time.perf_counter()
        last = len(written) == generator.tokens_per_image
        if len(written) % columns or last or now < next_preview:
            return
        image = generator.unfinished_image(torch.stack(written))
        then = time.perf_counter()
        next_preview = then + (then - now) * (1 / PREVIEW_SHARE - 1)
        steps.put(AnswerStep(image, len(written) // columns, len(written), then - begin))

    def work() -> None:
        try:
            if pairs:
                result = inferencer(query, pairs, task, on_token=on_token, **options)
            else:
                result = inferencer.continue_frames([query], on_token=on_token, **options)
            (prediction,) = result["predictions"]
            seconds = time.perf_counter() - begin
            steps.put(
                AnswerStep(
                    prediction["image"], generator.grid[0], len(written), seconds, prediction.get("overlay"), result
                )
            )
        except BaseException as error:  # handed to whoever waits
            steps.put(error)

    worker = threading.Thread(target=work, name="answer", daemon=True)
    worker.start()
    try:
        while True:
            step = steps.get()
            if isinstance(step, BaseException):
                raise step
            yield step
            if step.done:
                return
    finally:
        stop.set()
        worker.join()
