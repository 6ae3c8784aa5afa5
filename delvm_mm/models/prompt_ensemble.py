"""Several prompts for one query: which pairs each shows, in which order and colors, and how answers become one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delvm_mm.codecs.base import check_color
from delvm_mm.models.tokenizers.images import to_float

__all__ = ["PromptEnsemble", "answer_fields", "check_fits_context", "prompt_tokens"]

VARIATIONS = ("pairs", "order", "colors", "draws")
COMBINATIONS = ("distributions", "mean", "vote")
GRAY_TOLERANCE = 4 / 255  # of the channels of a gray label image: JPEG moves them a little


@dataclass(frozen=True, kw_only=True)
class PromptEnsemble:
    """E prompts made of the P pairs that are shown with a query, answered in one batch and combined.

    Averaging the answers of several arrangements of a prompt was worth more than any choice of prompts in prompt-SelF
    (Sun et al., 2023, arXiv 2304.04748). The mean of several draws comes near to the mean of all that a model holds for
    possible, which is the best guess where a score counts distances.

    Attributes:
        size: Prompts E.
        vary: What differs between them. 'pairs': they are dealt like cards, P / E to each prompt, so that more pairs
            are used than the context holds; the last pairs, which are the most alike where pairs are ordered by
            likeness, are the last ones of all prompts. 'order': all prompts show all pairs, the first as they are,
            the others in orders drawn by ``seed``. 'colors': labels in black and white are drawn in ``colors``.
            'draws': nothing, each prompt is that of all pairs, and the sampler draws an answer behind each; the
            prompt is read once. A greedy sampler writes one answer, as all would be the same.
        combine: How the answers become one. 'distributions': one answer is written, each token chosen from the mean
            of the prompts' next-token distributions. 'mean' and 'vote': each prompt is answered, and the codec reads
            the mean of the answers (``decode_mean``) or what most of them say (``decode_vote``). :meth:`of` takes
            'mean' for draws unless told otherwise.
        seed: Of the orders.
        colors: With 'colors', what black and white are in each prompt: E pairs (background, foreground) of RGB
            colors, values 0 to 255. Answers are turned back into black and white.

    Raises:
        ValueError: A value is none of these, ``colors`` are not E pairs, or distributions over different colors are
            to be averaged.

    Example:
        >>> PromptEnsemble(size=2).arrange(6).tolist()
        [[0, 2, 4], [1, 3, 5]]
    """

    size: int
    vary: str = "pairs"
    combine: str = "distributions"
    seed: int = 0
    colors: Sequence[Sequence[Sequence[int]]] = ()

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"ensemble.size is {self.size!r}, expected a number of prompts, 1 or more")
        for name, value, known in (("vary", self.vary, VARIATIONS), ("combine", self.combine, COMBINATIONS)):
            if value not in known:
                raise ValueError(f"ensemble.{name} is {value!r}, expected {' or '.join(map(repr, known))}")
        if self.vary == "draws" and self.combine == "distributions":
            raise ValueError(
                "ensemble.combine is 'distributions', and draws behind the same prompt (vary='draws') have one "
                "distribution: set combine='mean' or combine='vote'"
            )
        if self.vary != "colors":
            if len(self.colors):
                raise ValueError(f"ensemble.colors are for vary='colors', and vary is {self.vary!r}")
            return
        if len(self.colors) != self.size or any(len(pair) != 2 for pair in self.colors):
            raise ValueError(
                f"ensemble.colors has {len(self.colors)} entries, expected {self.size} (size) pairs (background, "
                "foreground)"
            )
        for number, pair in enumerate(self.colors):
            if check_color(pair[0], f"ensemble.colors[{number}][0]") == check_color(
                pair[1], f"ensemble.colors[{number}][1]"
            ):
                raise ValueError(f"ensemble.colors[{number}] is one color twice, {pair[0]}: expected two")
        if self.combine == "distributions":
            raise ValueError(
                "ensemble.combine is 'distributions', and labels in other colors are other tokens, whose "
                "distributions have no common mean: set combine='mean' or combine='vote'"
            )

    @classmethod
    def of(cls, given: "int | dict[str, Any] | PromptEnsemble | None") -> "PromptEnsemble | None":
        """An ensemble from its size or its arguments.

        Returns:
            None for None.

        Raises:
            ValueError: There is no argument of a name, or a value is wrong.
        """
        if given is None or isinstance(given, cls):
            return given
        given = dict(size=given) if isinstance(given, int) else dict(given)
        if given.get("vary") == "draws":
            given.setdefault("combine", "mean")  # they have no distributions to average
        if unknown := set(given) - set(cls.__dataclass_fields__):
            raise ValueError(f"ensemble has {sorted(unknown)}, expected some of {list(cls.__dataclass_fields__)}")
        if "size" not in given:
            raise ValueError(f"ensemble has {sorted(given)} and no 'size', the number of prompts")
        return cls(**given)

    def num_prompts(self, sampler: Mapping[str, Any]) -> int:
        """How many prompts are to be answered.

        Args:
            sampler: Arguments of a :class:`TokenSampler`.

        Returns:
            ``size``, or 1 for draws where the sampler does not draw.
        """
        return 1 if self.vary == "draws" and not sampler.get("temperature") else self.size

    @property
    def writes_one(self) -> bool:
        """Whether one answer is written, not one for each prompt."""
        return self.combine == "distributions"

    def arrange(self, num_pairs: int) -> Tensor:
        """Which pairs each prompt shows.

        Args:
            num_pairs: Pairs P that there are.

        Returns:
            int64, E x K: positions of the K pairs of each prompt, in the order shown.

        Raises:
            ValueError: P pairs cannot be dealt evenly, or do not have so many orders.
        """
        positions = torch.arange(num_pairs)
        if self.vary == "pairs":
            if num_pairs % self.size or not num_pairs:
                raise ValueError(
                    f"an ensemble of {self.size} prompts (vary='pairs') deals out the pairs evenly, and there are "
                    f"{num_pairs}: show a multiple of {self.size}, such as num_pairs={self.size} times the pairs of a "
                    "prompt, or set vary='order'"
                )
            return positions.view(-1, self.size).T
        if self.vary in ("colors", "draws"):
            return positions.expand(self.size, -1)
        if self.size > math.factorial(num_pairs):
            raise ValueError(
                f"an ensemble of {self.size} prompts (vary='order') needs so many orders of the pairs, and "
                f"{num_pairs} pairs have {math.factorial(num_pairs)}: set a smaller size or vary='pairs'"
            )
        random = np.random.RandomState(self.seed)
        orders = dict.fromkeys([tuple(range(num_pairs))])
        while len(orders) < self.size:
            orders.setdefault(tuple(random.permutation(num_pairs).tolist()))
        return torch.tensor(list(orders)).view(self.size, num_pairs)

    def arrange_images(self, num_pairs: int) -> Tensor:
        """The same for images that lie by turns, image and label: int64, E x 2K."""
        pairs = self.arrange(num_pairs)
        return torch.stack((2 * pairs, 2 * pairs + 1), -1).flatten(1)

    def recolor(self, labels: Tensor) -> Tensor:
        """Label images in the colors of each prompt.

        Args:
            labels: Float, N x 3 x H x W in [0, 1], gray: black is background.

        Returns:
            E x N x 3 x H x W.

        Raises:
            ValueError: A label image is not gray.
        """
        if (labels.amax(1) - labels.amin(1)).max() > GRAY_TOLERANCE:
            raise ValueError(
                "ensemble.vary is 'colors', which draws masks in black and white in other colors, and the labels of "
                "this prompt have colors of their own: set vary='pairs' or vary='order'"
            )
        colors = torch.as_tensor(self.colors, dtype=labels.dtype, device=labels.device)[..., None, None] / 255
        background, foreground = colors[:, :1], colors[:, 1:]
        return torch.lerp(background, foreground, labels.mean(1, keepdim=True)[None])

    def restore(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """Answers as their labels were before :meth:`recolor`: where each pixel lies on the way between two colors.

        Args:
            answers: uint8, H x W x 3 each, one for each prompt.

        Returns:
            uint8, E x H x W x 3; as given, unless colors vary.
        """
        answers = np.stack(answers)
        if self.vary != "colors":
            return answers
        background, foreground = np.moveaxis(np.asarray(self.colors, np.float32), 1, 0)[:, :, None, None]
        way = foreground - background
        place = ((answers - background) * way).sum(-1, keepdims=True) / (way * way).sum(-1, keepdims=True)
        return np.rint(place.clip(0, 1) * 255).astype(np.uint8).repeat(3, -1)


def prompt_tokens(inputs: Tensor, encode: Callable[[Tensor], Tensor], ensemble: PromptEnsemble | None) -> Tensor:
    """Tokens of the prompts that are made of each row's pairs.

    Args:
        inputs: Images, B x (2P + 1) x 3 x H x W: P pairs of image and label, and the query; floats in [0, 1] or uint8.
        encode: Images N x 3 x H x W to tokens N x T.
        ensemble: None for one prompt of all pairs.

    Returns:
        int64, B x E x (2K + 1) x T: E prompts of K pairs and the query.

    Raises:
        ValueError: The pairs do not make the ensemble.
    """
    batch, num_images = inputs.shape[:2]
    if ensemble is not None and ensemble.vary == "colors":
        inputs = to_float(inputs)
        labels = ensemble.recolor(inputs[:, 1:-1:2].flatten(0, 1))
        inputs = inputs.expand(ensemble.size, *inputs.shape).clone()
        inputs[:, :, 1:-1:2] = labels.unflatten(1, (batch, -1))
        return encode(inputs.flatten(0, 2)).view(ensemble.size, batch, num_images, -1).transpose(0, 1)
    tokens = encode(inputs.flatten(0, 1)).view(batch, num_images, -1)
    if ensemble is None:
        return tokens[:, None]
    order = ensemble.arrange_images(num_images // 2)
    order = torch.cat((order, torch.full((ensemble.size, 1), num_images - 1)), 1)
    return tokens[:, order.to(tokens.device)]


def check_fits_context(size: int, num_images: int, num_tokens: int, context: int) -> None:
    """Check that each prompt of an ensemble fits the context.

    Args:
        size: Prompts.
        num_images: Images of each, the query among them.
        num_tokens: Tokens of an image.
        context: Tokens that images may take.

    Raises:
        ValueError: With the query's answer it does not.
    """
    if (num_images + 1) * num_tokens > context:
        raise ValueError(
            f"each of the {size} prompts of the ensemble has {num_images // 2} pairs, which are {num_images + 1} "
            f"images of {num_tokens} tokens with the query and its answer; the context of {context} tokens holds "
            f"{context // num_tokens}: show fewer pairs, or deal them out to more prompts"
        )


def answer_fields(tokens: Tensor, images: Sequence[np.ndarray], ensemble: PromptEnsemble | None) -> dict[str, Any]:
    """Fields of a data sample: the answer, or those of all prompts and their mean.

    Args:
        tokens: int64, A x T.
        images: The same decoded: A images, uint8, H x W x 3.
        ensemble: Whose answers they are; None for one answer.

    Returns:
        ``pred_image`` and ``pred_tokens``; of several answers also ``pred_images`` and ``combine``.
    """
    if ensemble is None or ensemble.writes_one:
        return dict(pred_tokens=tokens[0], pred_image=images[0])
    restored = ensemble.restore(images)
    mean = np.rint(restored.mean(0)).astype(np.uint8)
    return dict(pred_tokens=tokens, pred_image=mean, pred_images=restored, combine=ensemble.combine)
