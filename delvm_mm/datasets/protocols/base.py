"""What the protocols share: episodes that are drawn once, in order, and made into prompts."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from delvm_mm.codecs import LabelCodec
from delvm_mm.datasets.prompt_samples import pack_prompt
from delvm_mm.datasets.readers.io.image import read_image
from delvm_mm.datasets.transforms.images import DrawLabel, Squash
from delvm_mm.registry import TASK_UTILS

__all__ = ["Episode", "ProtocolDataset", "draw_others", "read_lines", "require_files"]

SHOWN = 5


@dataclass(frozen=True)
class Episode:
    """One question of a protocol.

    Attributes:
        query: What :meth:`ProtocolDataset.read` reads: the image's file, its annotation's, its class, its fold.
        supports: The same of the K pairs, in the order shown.
        positions: Of the pairs in the list that they were drawn from.
    """

    query: dict
    supports: tuple[dict, ...]
    positions: tuple[int, ...]


class ProtocolDataset(Dataset):
    """Prompts of a published protocol, in its order; base of all of them.

    Images are drawn upon at their own size and then squashed, image and label, to ``size``: a model of whole images is
    shown them one after another, where a grid model sees one canvas. Episodes are drawn when the dataset is built, one
    after another from one seeded stream of numpy's, so that they are those of the public code whatever the number of
    workers, and the first n are the same for every ``num_queries``.

    Args:
        codec: What draws the labels, such as :class:`SquashedCodec`; the evaluator has the same.
        size: Side of the model's images in pixels.
        num_pairs: Pairs K in a prompt.
        seed: Seed of the draws.
        num_queries: Use only the first n queries of the protocol (of each fold), for a quick look.
        interpolation: How images and labels are squashed, 'bicubic' or 'bilinear'.
        answered: Whether the query's label comes last, for a model to score it instead of drawing one.

    Raises:
        FileNotFoundError: Files that the lists name are missing; the message says how many, and which.
        ValueError: An argument is out of range, or there are not enough pairs.
    """

    METAINFO: dict = dict(task="seg")

    def __init__(
        self,
        codec: dict | LabelCodec,
        size: int = 256,
        num_pairs: int = 1,
        seed: int = 0,
        num_queries: int | None = None,
        interpolation: str = "bicubic",
        answered: bool = False,
    ) -> None:
        for name, value, least in (("num_pairs", num_pairs, 1), ("seed", seed, 0), ("num_queries", num_queries, 1)):
            if value is None and name == "num_queries":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}, expected a whole number, at least {least}")
        self.size, self.num_pairs, self.seed, self.num_queries = size, num_pairs, seed, num_queries
        self.interpolation, self.answered = interpolation, answered
        self.codec = TASK_UTILS.build(codec) if isinstance(codec, dict) else codec
        self.pipeline = [DrawLabel(self.codec), Squash(size, interpolation)]
        self.episodes = self.draw_episodes()

    @property
    def metainfo(self) -> dict:
        """What evaluation reads."""
        return dict(self.METAINFO)

    @property
    def choice(self) -> dict[str, Any]:
        """How prompts are chosen, to be noted with results."""
        return dict(protocol=type(self).__name__, num_pairs=self.num_pairs, seed=self.seed, size=self.size)

    def __len__(self) -> int:
        """Number of queries, of all folds."""
        return len(self.episodes)

    def __getitem__(self, index: int) -> dict:
        """One prompt with its query.

        Args:
            index: From 0 to ``len(self) - 1``.

        Returns:
            As of :class:`VisionPromptDataset`; the query's ``fold`` is in the metainfo where there are folds.

        Raises:
            IndexError: There is no such query.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"query {index} of {len(self)}")
        episode = self.episodes[index]
        query, *pairs = (self._sample(entry) for entry in (episode.query, *episode.supports))
        return pack_prompt(query | dict(sample_idx=index), index, episode.positions, pairs, self.answered)

    @abstractmethod
    def draw_episodes(self) -> list[Episode]:
        """All episodes of the protocol, or the first ``num_queries`` (of each fold)."""

    def read(self, entry: dict) -> dict:
        """Load image and annotation of an entry.

        Args:
            entry: Of an :class:`Episode`.

        Returns:
            Results dict with ``img`` and what the codec draws, at the image's own size.

        Raises:
            OSError, ValueError: A file is missing or damaged; the message names it.
        """
        return entry | dict(img=read_image(entry["img_path"]))

    def _sample(self, entry: dict) -> dict:
        results = self.read(dict(entry)) | dict(task=self.METAINFO["task"])
        for step in self.pipeline:
            results = step(results)
        return results


def draw_others(
    random: np.random.RandomState, names: Sequence[str], query: str, number: int, where: str
) -> tuple[int, ...]:
    """Draw pairs one by one from the images of a class, the query's left out; one may come twice.

    Args:
        random: The stream of the protocol, from which each draw takes a permutation, as
            ``np.random.choice(names, 1, replace=False)`` does.
        names: Images of the class.
        query: The query's.
        number: How many to draw.
        where: What the class is called, for messages.

    Returns:
        Positions in ``names``.

    Raises:
        ValueError: There are fewer other images than are to be drawn.
    """
    others = sum(name != query for name in names)
    if others < number:
        raise ValueError(
            f"{number} pairs are asked for, but {where} has {others} images besides {query}: lower num_pairs, or give "
            "a longer list"
        )
    drawn: list[int] = []
    while len(drawn) < number:
        position = int(random.choice(len(names), 1, replace=False)[0])
        if names[position] != query:
            drawn.append(position)
    return tuple(drawn)


def read_lines(path: str | Path, what: str) -> list[str]:
    """Lines of a list that are not empty, without blanks around them.

    Args:
        path: The text file.
        what: What stands in each line, for messages.

    Returns:
        At least one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text, or empty.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no list at {path}: expected {what} in each line")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: expected {what} in each line") from error
    if not lines:
        raise ValueError(f"{path} is empty: expected {what} in each line")
    return lines


def require_files(paths: Sequence[str | Path], listed_in: str | Path, what: str) -> None:
    """Check that files are there.

    Args:
        paths: The files.
        listed_in: What names them.
        what: What they are, such as 'images', for the message.

    Raises:
        FileNotFoundError: Some are not; the message says how many, and the first five.
    """
    paths = list(dict.fromkeys(map(str, paths)))
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        raise FileNotFoundError(
            f"{listed_in} names {len(paths)} {what}, of which {len(missing)} are missing: "
            f"{', '.join(missing[:SHOWN])}{more}; copy them there, or check data_root"
        )
