"""Pictures in and pictures out of a :class:`DeLVM`: what the inferencer does with tokens."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delvm_mm.models import DeLVM
from delvm_mm.models.delvm import to_uint8
from delvm_mm.registry import TASK_UTILS

__all__ = ["PictureGenerator"]

OnToken = Callable[[int, Tensor], None]
GREY = 128  # of what is not written yet


class PictureGenerator:
    """A model that reads and writes square pictures of one size.

    Shapes: N pictures of S x S pixels, T = h·w tokens each.

    Args:
        model: With a tokenizer.
        size: Side S of the pictures in pixels.

    Raises:
        ValueError: If the tokenizer cannot read pictures of this size, or the context holds fewer than two.
    """

    def __init__(self, model: DeLVM, size: int) -> None:
        self.model = model
        self.size = size
        self.grid: tuple[int, int] = model.tokenizer.grid_of(size, size)
        self.tokens_per_picture = self.grid[0] * self.grid[1]
        self.max_pictures = model.max_positions // self.tokens_per_picture
        if self.max_pictures < 2:
            raise ValueError(
                f"pictures of {size} px are {self.tokens_per_picture} tokens, and the context of {model.max_positions} "
                "tokens does not hold two; use smaller pictures"
            )

    @property
    def max_pairs(self) -> int:
        """Most prompt pairs that fit beside a query and its answer."""
        return (self.max_pictures - 2) // 2

    @torch.no_grad()
    def encode(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Tokens of pictures (uint8, S x S x 3): int64, N x T, on the model's device."""
        pixels = torch.from_numpy(np.stack(pictures)).to(next(self.model.parameters()).device)
        return self.model.tokenizer.encode(pixels.permute(0, 3, 1, 2).float() / 255)

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> list[np.ndarray]:
        """Pictures (uint8, S x S x 3) of tokens (N x T)."""
        return to_uint8(self.model.tokenizer.decode(tokens, self.grid))

    def answer(
        self, prompt: Tensor, queries: Tensor, sampler: dict[str, Any], on_token: OnToken | None = None
    ) -> Tensor:
        """Answer queries that share a prompt.

        Args:
            prompt: int64, 2P x T: picture and annotation in turn.
            queries: int64, N x T.
            sampler: Arguments of a :class:`TokenSampler`.
            on_token: Called with (index, tokens N) after each token.

        Returns:
            Tensor: int64, N x T.

        Raises:
            ValueError: If there are more pairs than fit.
        """
        pairs = len(prompt) // 2
        if pairs > self.max_pairs:
            raise ValueError(
                f"{pairs} prompt pairs, the query and its answer are {2 * pairs + 2} pictures of "
                f"{self.tokens_per_picture} tokens, the context of {self.model.max_positions} holds "
                f"{self.max_pictures} pictures; give at most {self.max_pairs} pairs"
            )
        tokens = torch.cat([prompt.flatten().expand(len(queries), -1), queries], 1)
        return self.model.generate(
            tokens, self.tokens_per_picture, sampler=sampler, on_token=on_token, prompt_length=prompt.numel()
        )

    def rows_to_keep(self, keep: float) -> int:
        """Rows of tokens in a part of a picture, rounded.

        Raises:
            ValueError: If nothing would be kept, or nothing left to write.
        """
        rows = self.grid[0]
        kept = round(keep * rows) if 0 < keep < 1 else 0
        if not 0 < kept < rows:
            raise ValueError(
                f"keep is {keep}, of {rows} rows of tokens; expected {1 / rows:.3g} to {1 - 1 / rows:.3g}, so that "
                "there are rows to keep and rows to write"
            )
        return kept

    def complete(
        self, pictures: Tensor, kept_rows: int, sampler: dict[str, Any], on_token: OnToken | None = None
    ) -> Tensor:
        """Write pictures (int64, N x T) anew below their first rows of tokens; returns N x T, those rows included."""
        kept = pictures[:, : kept_rows * self.grid[1]]
        missing = self.tokens_per_picture - kept.shape[1]
        return torch.cat([kept, self.model.generate(kept, missing, sampler=sampler, on_token=on_token)], 1)

    def continue_frames(
        self, frames: Tensor, n: int, sampler: dict[str, Any], on_token: OnToken | None = None
    ) -> tuple[Tensor, list[int]]:
        """Write the next frames.

        They are written on until the context is full; from then on each sees the last ``max_pictures - 1``.

        Args:
            frames: int64, N x T, those that are given.
            n: How many to write.
            sampler: Arguments of a :class:`TokenSampler`.
            on_token: Called with (index over all frames, tokens 1) after each token.

        Returns:
            tuple[Tensor, list[int]]: int64, n x T, and how many frames each new one has seen.
        """
        # One sampler for all, so that a seed does not draw the same numbers again for every frame.
        draw = TASK_UTILS.build(dict(type="TokenSampler") | sampler)
        given, seen = len(frames), []
        while len(seen) < n:
            shown = frames[-(self.max_pictures - 1) :]
            count = min(self.max_pictures - len(shown), n - len(seen))
            before = len(seen) * self.tokens_per_picture

            def report(index: int, token: Tensor, before: int = before) -> None:
                if on_token is not None:
                    on_token(before + index, token)

            prompt = shown.reshape(1, -1)
            new = self.model.generate(prompt, count * self.tokens_per_picture, sampler=draw, on_token=report)
            frames = torch.cat([frames, new.view(count, -1)])
            seen += range(len(shown), len(shown) + count)
        return frames[given:], seen

    @torch.no_grad()
    def unfinished_picture(self, tokens: Tensor) -> np.ndarray:
        """The picture so far: the rows that are whole, grey below.

        Args:
            tokens: int64, the first tokens of one picture.

        Returns:
            np.ndarray: uint8, S x S x 3.
        """
        all_rows, columns = self.grid
        rows = len(tokens) // columns
        picture = np.full((self.size, self.size, 3), GREY, np.uint8)
        if rows:
            decoded = self.model.tokenizer.decode(tokens[None, : rows * columns], (rows, columns))
            picture[: rows * (self.size // all_rows)] = to_uint8(decoded)[0]
        return picture
