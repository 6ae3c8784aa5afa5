"""Images in and images out of a :class:`DeLVM`: what the inferencer does with tokens."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delvm_mm.models import DeLVM
from delvm_mm.models.prompt_ensemble import PromptEnsemble, check_fits_context, prompt_tokens
from delvm_mm.models.tokenizers.images import decode_images, encode_images, to_float
from delvm_mm.registry import TASK_UTILS

__all__ = ["ImageGenerator"]

OnToken = Callable[[int, Tensor], None]
GRAY = 128  # of what is not written yet


class ImageGenerator:
    """A model that reads and writes square images of one size.

    Shapes: N images of S x S pixels, T = h·w tokens each.

    Args:
        model: With a tokenizer.
        size: Side S of the images in pixels.

    Raises:
        ValueError: If the tokenizer cannot read images of this size, or the context holds fewer than two.
    """

    def __init__(self, model: DeLVM, size: int) -> None:
        self.model = model
        self.size = size
        self.grid: tuple[int, int] = model.tokenizer.grid_of(size, size)
        self.tokens_per_image = self.grid[0] * self.grid[1]
        self.max_images = (model.max_positions - model.prompt_overhead) // self.tokens_per_image
        if self.max_images < 2:
            raise ValueError(
                f"images of {size} px are {self.tokens_per_image} tokens, and the context of {model.max_positions} "
                "tokens does not hold two; use smaller images"
            )

    @property
    def max_pairs(self) -> int:
        """Most prompt pairs that fit beside a query and its answer."""
        return (self.max_images - 2) // 2

    @torch.no_grad()
    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Tokens of images (uint8, S x S x 3): int64, N x T, on the model's device."""
        pixels = torch.from_numpy(np.stack(images)).to(next(self.model.parameters()).device)
        return encode_images(self.model.tokenizer, pixels.permute(0, 3, 1, 2))

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> list[np.ndarray]:
        """Images (uint8, S x S x 3) of tokens (N x T)."""
        return decode_images(self.model.tokenizer, tokens, self.grid)

    @torch.no_grad()
    def prompts(self, images: Sequence[np.ndarray], ensemble: PromptEnsemble | None = None) -> Tensor:
        """Tokens of the prompts that are made of some pairs.

        Args:
            images: 2P, uint8, S x S x 3: image and annotation in turn.
            ensemble: Makes several prompts of them; None for one.

        Returns:
            int64, E x 2K x T: E prompts of K pairs.

        Raises:
            ValueError: The pairs do not make the ensemble, or are more than fit.
        """
        # Any image in the place of the query, which is left out again.
        pixels = torch.from_numpy(np.stack([*images, images[0]])).permute(0, 3, 1, 2)
        pixels = pixels.to(next(self.model.parameters()).device)
        tokens = prompt_tokens(to_float(pixels)[None], self.model.tokenizer.encode, ensemble)[0, :, :-1]
        size, num_images, num_tokens = tokens.shape
        if num_images // 2 <= self.max_pairs:
            return tokens
        if size > 1:
            check_fits_context(size, num_images + 1, num_tokens, self.model.max_positions - self.model.prompt_overhead)
        raise ValueError(
            f"{num_images // 2} prompt pairs, the query and its answer are {num_images + 2} images of {num_tokens} "
            f"tokens, the context of {self.model.max_positions} holds {self.max_images} images; give at most "
            f"{self.max_pairs} pairs, or deal them out to several prompts by an ensemble"
        )

    def answer(
        self,
        prompts: Tensor,
        queries: Tensor,
        sampler: dict[str, Any],
        on_token: OnToken | None = None,
        one_answer: bool = True,
    ) -> Tensor:
        """Answer queries behind one prompt or several, the same for all of them.

        Args:
            prompts: int64, E x 2K x T: image and annotation in turn.
            queries: int64, N x T.
            sampler: Arguments of a :class:`TokenSampler`.
            on_token: Called with (index, tokens N·A) after each token.
            one_answer: Whether the prompts write one answer, from the mean of their distributions, or each its own.

        Returns:
            int64, N x A x T: A is 1, or E.
        """
        size, num_queries = len(prompts), len(queries)
        rows = torch.cat([prompts.flatten(1).repeat(num_queries, 1), queries.repeat_interleave(size, 0)], 1)
        written = self.model.generate(
            self.model.with_bos(rows),
            self.tokens_per_image,
            sampler=sampler,
            on_token=on_token,
            prompt_length=self.model.prompt_overhead + prompts[0].numel(),
            ensemble_size=size if one_answer else 1,
            grid=self.grid,
        )
        return written.view(num_queries, -1, self.tokens_per_image)

    def rows_to_keep(self, keep: float) -> int:
        """Rows of tokens in a part of an image, rounded.

        Returns:
            At least 1, and fewer than the image has.

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
        self, images: Tensor, kept_rows: int, sampler: dict[str, Any], on_token: OnToken | None = None
    ) -> Tensor:
        """Write images (int64, N x T) anew below their first rows of tokens; returns N x T, those rows included."""
        kept = images[:, : kept_rows * self.grid[1]]
        missing = self.tokens_per_image - kept.shape[1]
        written = self.model.generate(
            self.model.with_bos(kept), missing, sampler=sampler, on_token=on_token, grid=self.grid
        )
        return torch.cat([kept, written], 1)

    def continue_frames(
        self, frames: Tensor, n: int, sampler: dict[str, Any], on_token: OnToken | None = None
    ) -> tuple[Tensor, list[int]]:
        """Write the next frames.

        They are written on until the context is full; from then on each sees the last ``max_images - 1``.

        Args:
            frames: int64, N x T, those that are given.
            n: How many to write.
            sampler: Arguments of a :class:`TokenSampler`.
            on_token: Called with (index over all frames, tokens 1) after each token.

        Returns:
            int64, n x T, and how many frames each new one has seen.
        """
        # One sampler for all, so that a seed does not draw the same numbers again for every frame.
        draw = TASK_UTILS.build(dict(type="TokenSampler") | sampler)
        given, seen = len(frames), []
        while len(seen) < n:
            shown = frames[-(self.max_images - 1) :]
            count = min(self.max_images - len(shown), n - len(seen))
            before = len(seen) * self.tokens_per_image

            def report(index: int, token: Tensor, before: int = before) -> None:
                if on_token is not None:
                    on_token(before + index, token)

            prompt = self.model.with_bos(shown.reshape(1, -1))
            new = self.model.generate(
                prompt, count * self.tokens_per_image, sampler=draw, on_token=report, grid=self.grid
            )
            frames = torch.cat([frames, new.view(count, -1)])
            seen += range(len(shown), len(shown) + count)
        return frames[given:], seen

    @torch.no_grad()
    def unfinished_image(self, tokens: Tensor) -> np.ndarray:
        """The image so far: the rows that are whole, gray below.

        Args:
            tokens: int64, the first tokens of one image.

        Returns:
            uint8, S x S x 3.
        """
        all_rows, columns = self.grid
        rows = len(tokens) // columns
        image = np.full((self.size, self.size, 3), GRAY, np.uint8)
        if rows:
            decoded = decode_images(self.model.tokenizer, tokens[None, : rows * columns], (rows, columns))
            image[: rows * (self.size // all_rows)] = decoded[0]
        return image
