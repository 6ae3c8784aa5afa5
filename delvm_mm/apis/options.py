"""The options that all ways of asking a model share."""

import dataclasses
import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["AnswerOptions"]


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How tokens are chosen, and what becomes of the answers.

    Attributes:
        temperature: 0 chooses the most probable token. The model's setting unless given, as for the next three.
        top_k: Draw among the k most probable tokens.
        top_p: Draw among the most probable tokens that reach this probability together, in (0, 1].
        seed: Of the draws; every batch starts from it.
        batch_size: Images that are written together. Drawn answers depend on it, greedy ones do not.
        ensemble: Answer behind several prompts made of the pairs: the arguments of a :class:`PromptEnsemble`, or its
            size; 24 pairs are, with 8, 8 prompts of 3. The model's setting unless given; 1 is one prompt of all pairs.
        on_token: Called with (index, tokens B) after each token; ``ImageGenerator.unfinished_image`` shows them.
        on_error: 'stop' at a damaged image, or 'skip' it and list it under ``skipped``.
        fit: How images are brought to the model's square, the prompt's too: 'crop' resizes the short side and cuts
            out the center, 'pad' resizes the long side and pads with black, so that all is seen.
        bbox: Of a query, the part to look at: x1, y1, x2, y2 in pixels of its file, where 0 and W, H are edges; of
            several queries, a list of as many.
        original: Whether predictions also have what was answered at the size of the query's file.
        out_dir: Write images, predictions and panels there; see :class:`AnswerWriter`.
        show: Show each panel in a window.
        return_vis: Whether panels are returned; without, they are drawn only to be shown or written.
        return_datasamples: Predictions as ``DataSample`` instead of dicts.

    Raises:
        ValueError: If an option is out of range.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    ensemble: int | dict[str, Any] | None = None
    batch_size: int = 8
    on_token: Callable[[int, Tensor], None] | None = None
    on_error: str = "stop"
    fit: str = "crop"
    bbox: Sequence[float] | Sequence[Sequence[float]] | None = None
    original: bool = True
    out_dir: str | os.PathLike | None = None
    show: bool = False
    return_vis: bool = True
    return_datasamples: bool = False

    def __post_init__(self) -> None:
        if self.on_error not in ("stop", "skip"):
            raise ValueError(f"on_error is {self.on_error!r}, expected 'stop' or 'skip'")
        if self.fit not in ("crop", "pad"):
            raise ValueError(f"fit is {self.fit!r}, expected 'crop' or 'pad'")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}, expected at least 1")

    @classmethod
    def of(cls, options: dict[str, Any]) -> "AnswerOptions":
        """Options by name.

        Returns:
            The options, checked.

        Raises:
            TypeError: If there is none of a name.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1)
                advice = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names)}"
                raise TypeError(f"there is no option '{name}': {advice}")
        return cls(**options)

    def sampler(self, of_model: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a :class:`TokenSampler`: the model's own, and over them what is given."""
        given = dict(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=self.seed)
        return dict(of_model) | {key: value for key, value in given.items() if value is not None}

    def boxes(self, num_queries: int) -> list[Sequence[float] | None]:
        """The box of each query, None where all of it is to be looked at.

        Returns:
            x1, y1, x2, y2 or None, one a query.

        Raises:
            ValueError: There are not as many as queries.
        """
        if self.bbox is None:
            return [None] * num_queries
        boxes = [self.bbox] if np.ndim(self.bbox) == 1 and not isinstance(self.bbox[0], Sequence) else list(self.bbox)
        if len(boxes) != num_queries:
            raise ValueError(
                f"bbox has {len(boxes)} boxes for {num_queries} queries, expected one (x1, y1, x2, y2) each"
            )
        return boxes

    @property
    def draws(self) -> bool:
        """Whether anybody looks at panels."""
        return self.return_vis or self.show or self.out_dir is not None
