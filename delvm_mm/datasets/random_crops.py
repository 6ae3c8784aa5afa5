"""``RandomCrops``: an endless, seeded stream of crops out of images that are made once, for training a tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from delvm_mm.datasets.seeded_clips import SeededClips, Unreadable
from delvm_mm.registry import DATASETS

__all__ = ["RandomCrops"]


@DATASETS.register_module()
class RandomCrops(Dataset):
    """Crops of the images of clips, of several sources in given shares, and flat images among them.

    A tokenizer whose layers know nothing of the rest of the image learns as well from crops, which are cheaper and more
    varied. Sample ``i`` depends on ``seed`` and ``i`` alone. A clip is made when it is first asked for and kept in
    memory (uint8); each worker of a loader has a memory of its own.

    Args:
        sources: Each a dict with ``dataset``, the config of a dataset whose samples end with ``PackClip``; ``share``,
            how often it is drawn, relative to the others; and optionally ``copies``, how many clips are made of each
            sample with random numbers of their own.
        size: Side of the crops in pixels.
        length: Number of samples.
        flat: Part of the crops that are of one color: black, white or any, a third each.
        crops: Crops in a sample, all of one clip, whose making is then paid once.
        candidates: Crops to choose from, for each crop: the one with the most contrast is taken, so that what is drawn
            on a large empty background is seen more often. 1 takes any.
        seed: Seed of the stream and of what is random in the sources.

    Raises:
        ValueError: An argument is out of range, or images are smaller than ``size``.

    ``dataset[i]`` is ``dict(inputs=uint8 tensor crops x 3 x size x size)``.
    """

    def __init__(
        self,
        sources: Sequence[Mapping[str, Any]],
        size: int = 48,
        length: int = 1_000_000,
        flat: float = 0.05,
        crops: int = 4,
        candidates: int = 3,
        seed: int = 0,
    ) -> None:
        if not sources:
            raise ValueError("RandomCrops.sources is empty: expected at least one dict with 'dataset' and 'share'")
        counts = {"size": size, "length": length, "crops": crops, "candidates": candidates}
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"RandomCrops.{name} is {value!r}, expected a whole number from 1")
        if not 0 <= flat <= 1:
            raise ValueError(f"RandomCrops.flat is {flat}, expected a part of the crops in [0, 1]")
        self.size, self.length, self.flat, self.seed = size, length, flat, seed
        self.crops, self.candidates = crops, candidates
        shares = np.array([float(source.get("share", 1.0)) for source in sources])
        if not (shares > 0).all():
            raise ValueError(f"RandomCrops: the shares are {shares.tolist()}, expected numbers above 0")
        self.shares = shares / shares.sum()
        self.clips = []
        for source in sources:
            dataset = source["dataset"]
            dataset = DATASETS.build(dict(dataset)) if isinstance(dataset, Mapping) else dataset
            self.clips.append(SeededClips(dataset, seed, int(source.get("copies", 1))))
        self._images: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        """Number of samples."""
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """The sample at ``index``."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, index])))
        number = int(rng.choice(len(self.clips), p=self.shares))
        images = self._clip(number, int(rng.integers(len(self.clips[number]))))
        crops = [
            self._flat(rng) if rng.random() < self.flat else self._crop(rng, images[which % len(images)])
            for which in range(self.crops)
        ]
        return {"inputs": torch.from_numpy(np.stack(crops))}

    def _clip(self, number: int, clip: int) -> np.ndarray:
        if (number, clip) not in self._images:
            sample = self.clips[number][clip]
            if isinstance(sample, Unreadable):
                raise sample.as_error()
            images = sample["inputs"].numpy()
            if min(images.shape[2:]) < self.size:
                raise ValueError(
                    f"source {number} of RandomCrops has images of {images.shape[2]}x{images.shape[3]} (height x "
                    f"width), smaller than size={self.size}: lower size, or resize less in its pipeline"
                )
            self._images[number, clip] = images
        return self._images[number, clip]

    def _flat(self, rng: np.random.Generator) -> np.ndarray:
        color = (np.zeros(3), np.full(3, 255), rng.integers(0, 256, 3))[rng.integers(3)]
        return np.broadcast_to(color.astype(np.uint8)[:, None, None], (3, self.size, self.size))

    def _crop(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        space = np.array(image.shape[1:]) - self.size + 1
        corners = rng.integers(0, space, (self.candidates, 2))
        crops = [image[:, top : top + self.size, left : left + self.size] for top, left in corners]
        # A part of the pixels says enough about the contrast.
        contrasts = [crop[:, ::3, ::3].std() for crop in crops] if len(crops) > 1 else [0]
        return crops[int(np.argmax(contrasts))]
