"""``ProceduralClasses``: an endless, seeded source of labeled images for classification, without a download."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from mmengine.dataset import Compose
from torch.utils.data import Dataset

from delvm_mm.datasets.procedural.backgrounds import plan_background
from delvm_mm.datasets.procedural.drawing import pick, uniform
from delvm_mm.datasets.procedural.objects import draw_objects, plan_light, plan_object
from delvm_mm.registry import DATASETS, TRANSFORMS

SHAPES = ("star", "ring", "crate", "leaf", "vase")
PATTERNS = ("plain", "checks")
CLASSES = tuple(f"{pattern} {shape}" for shape in SHAPES for pattern in PATTERNS)
CLUTTER = ("blob", "rounded box", "polygon", "ellipse")
# Longer arms, and a longer and narrower leaf: in 48 pixels the two would be hard to tell apart. How much nearer points
# come to the center (a power of their distance from it), and how much larger the whole then is.
SLIMMER = {"star": (1.0, 1.0), "leaf": (0.6, 1.25)}
# Keeps the images apart from those of ProceduralScenes with the same seed.
STREAM = 100


@DATASETS.register_module()
class ProceduralClasses(Dataset):
    """Images of one object each, in ten classes: five shapes, plain or checked.

    Place, size, rotation, proportions, colors, light, gloss, background and up to two small objects of other shapes
    vary, and none of them depends on the class. Sample ``i`` is of class ``i % 10`` and depends on the seed and ``i``
    alone; at another ``size`` it is the same image. Windows ``[start, start + length)`` that do not overlap share no
    sample, which makes disjoint sets for training and test.

    Args:
        size: Side of the square images in pixels.
        seed: Seed of the endless source.
        start: Index of the first sample in the endless source.
        length: Number of samples in the window.
        channel_order: 'rgb', as everywhere in this package, or 'bgr', as mmpretrain's readers have it.
        cache: Whether to keep drawn images in memory, size x size x 3 bytes each; the pipeline runs each time. Each
            worker of a loader has a memory of its own: use one, and ``persistent_workers``.
        pipeline: Transform configs (TRANSFORMS) or callables, applied to the results dict in turn.

    Raises:
        ValueError: An argument is outside what is described above.

    ``dataset[i]`` is a results dict after the pipeline. Before it: ``img``, uint8 size x size x 3; ``gt_label``, int;
    ``img_shape`` and ``ori_shape``, (size, size); ``sample_idx``, ``i`` plus ``start``; ``img_path``, no file.

    Example:
        >>> dataset = ProceduralClasses(size=64, length=20)
        >>> dataset[13]["img"].shape, dataset.METAINFO["classes"][dataset[13]["gt_label"]]
        ((64, 64, 3), 'checks ring')
    """

    METAINFO = {"classes": CLASSES}  # mmpretrain looks for it in the class

    def __init__(
        self,
        size: int = 64,
        seed: int = 0,
        start: int = 0,
        length: int = 1000,
        channel_order: str = "rgb",
        cache: bool = False,
        pipeline: Sequence[dict | Callable] = (),
    ):
        for name, value, least in (("size", size, 1), ("seed", seed, 0), ("start", start, 0), ("length", length, 1)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(f"{name} is {value!r}; expected a whole number, at least {least}")
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order is {channel_order!r}; expected 'rgb' or 'bgr'")
        self.size, self.seed, self.start, self.length = int(size), int(seed), int(start), int(length)
        self.channel_order = channel_order
        self._drawn: dict[int, np.ndarray] | None = {} if cache else None
        self.pipeline = Compose([TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline])

    @property
    def metainfo(self) -> dict:
        """The names of the classes, and the arguments that choose the set."""
        return {
            **self.METAINFO,
            "dataset_type": type(self).__name__,
            "size": self.size,
            "seed": self.seed,
            "start": self.start,
            "length": self.length,
        }

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        if not -self.length <= index < self.length:
            raise IndexError(f"index {index} is out of range for a window of {self.length} procedural images")
        sample_idx = self.start + int(index) % self.length
        image = None if self._drawn is None else self._drawn.get(sample_idx)
        if image is None:
            image = self._draw(sample_idx)
            if self._drawn is not None:
                self._drawn[sample_idx] = image
        return self.pipeline(
            {
                "img": (image if self.channel_order == "rgb" else image[..., ::-1]).copy(),
                "gt_label": sample_idx % len(CLASSES),
                "img_shape": (self.size, self.size),
                "ori_shape": (self.size, self.size),
                "img_channel_order": "rgb",
                "sample_idx": sample_idx,
                "img_path": f"procedural/classes/seed{self.seed}/{sample_idx}",
            }
        )

    def _draw(self, sample_idx: int) -> np.ndarray:
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, STREAM, sample_idx])))
        pattern, _, shape = CLASSES[sample_idx % len(CLASSES)].partition(" ")
        background = plan_background(rng, "objects")
        thumbnail, light = background.render(32), plan_light(rng)
        clutter = []
        for _ in range(pick(rng, (0, 1, 2))):
            radius = uniform(rng, 0.05, 0.1)
            place = np.array([rng.random(), rng.random()])
            clutter.append(plan_object(rng, thumbnail, place, radius, light, shape=pick(rng, CLUTTER)))
        radius = uniform(rng, 0.3, 0.44)
        place = np.array([uniform(rng, 0.38, 0.62) for _ in range(2)])
        # Drawing at a whole multiple of the size and averaging gives smooth edges and the same look at small sizes.
        canvas = self.size * max(2, -(-192 // self.size))
        image = background.render(canvas)
        item = plan_object(rng, thumbnail, place, radius, light, shape, pattern)
        # Fine and strong enough to be seen on every shape, in 48 pixels too.
        item.period = uniform(rng, 0.28, 0.42)
        item.second_color = item.color * 0.4 if item.color.mean() > 100 else 255 - (255 - item.color) * 0.35
        if shape in SLIMMER:
            power, stretch = SLIMMER[shape]
            reach = np.sqrt(np.sum((item.outline - place) ** 2, axis=1, keepdims=True)) / radius
            item.outline = place + (item.outline - place) * reach**power * stretch
        draw_objects(image, None, [*clutter, item])
        return cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA)
