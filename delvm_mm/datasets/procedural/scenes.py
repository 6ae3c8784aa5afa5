"""``ProceduralScenes``: an endless, seeded source of images with annotations that needs no download."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from mmengine.dataset import Compose
from torch.utils.data import Dataset

from delvm_mm.datasets.procedural.backgrounds import plan_background
from delvm_mm.datasets.procedural.depth import draw_room, plan_room
from delvm_mm.datasets.procedural.drawing import integer, pick
from delvm_mm.datasets.procedural.objects import draw_objects, plan_objects
from delvm_mm.datasets.procedural.people import draw_people, plan_people
from delvm_mm.datasets.procedural.rain import add_rain
from delvm_mm.registry import DATASETS, TRANSFORMS

TASKS = ("seg", "pose", "derain", "image", "boxes", "depth")  # at the end: the place of a task is part of its seed
MAX_PEOPLE = 6


@DATASETS.register_module()
class ProceduralScenes(Dataset):
    """Drawn scenes for segmentation, pose, deraining, boxes, depth and more, made when they are asked for.

    Sample ``i`` of a seed and task depends on nothing else: not on the window, the worker, the order of access or the
    number of threads; at another ``size`` it is the same scene. Windows ``[start, start + length)`` that do not
    overlap share no sample, which makes disjoint sets for training, validation and test.

    * 'seg': one to four shaded objects before a surface, a texture or a defocused photograph. The foreground is the
      objects, all of them; their shadows and everything else are background. There are no people.
    * 'pose': people in one of eleven kinds of pose, seen from the front, the side or the back.
    * 'derain': a clean scene, mostly a photograph, at times with objects and a person in it, and the same in rain.
    * 'image': such a clean scene alone, for ``AddNoise`` and its like.
    * 'boxes': one object as in 'seg', and the box around it.
    * 'depth': objects that stand on a floor before a wall, 2 m to 10 m away.

    Args:
        task: 'seg', 'pose', 'derain', 'image', 'boxes' or 'depth'.
        size: Side of the square images in pixels.
        seed: Seed of the endless source; another seed gives other scenes.
        start: Index of the first sample in the endless source.
        length: Number of samples in the window.
        num_people: Smallest and largest number of people in a 'pose' scene, 1 to 6; other tasks ignore it.
        pipeline: Transform configs (TRANSFORMS) or callables, applied to the results dict in turn.

    Raises:
        ValueError: An argument is outside what is described above.

    ``dataset[i]`` is a results dict after the pipeline; negative ``i`` count from the end. Before the pipeline it has:

    * ``img``: RGB uint8 size x size x 3; ``img_shape`` and ``ori_shape``: (size, size);
    * ``img_path``: a name such as 'procedural/pose/seed0/12', no file; ``sample_idx``: ``i`` plus ``start``;
    * ``task``: as given;
    * 'seg': ``gt_seg_map``, uint8 size x size, 1 on objects and 0 elsewhere;
    * 'pose': ``keypoints``, float32 N x 17 x 2, COCO order, in pixels with pixel ``i`` centerd on ``i``;
      ``keypoints_visible``, float32 N x 17, 1 where labeled, 0 where not: outside the frame, or a feature of the
      face that the head hides. A joint behind the body or another person is labeled, as in COCO. Keypoints that
      are not labeled are at (0, 0). ``bbox``, float32 N x 4: x1 y1 x2 y2 of the drawn body in pixels, where 0 and
      ``size`` are the edges of the frame. People are ordered from back to front;
    * 'derain': ``gt_img``, the clean image, RGB uint8 size x size x 3;
    * 'boxes': ``bbox``, float32 1 x 4, of whole pixels, and ``gt_seg_map`` as in 'seg';
    * 'depth': ``gt_depth_map``, float32 size x size, meters along the view.

    Example:
        >>> scenes = ProceduralScenes(task="seg", size=64, length=8)
        >>> scenes[0]["img"].shape, scenes[0]["gt_seg_map"].shape
        ((64, 64, 3), (64, 64))
    """

    def __init__(
        self,
        task: str,
        size: int = 256,
        seed: int = 0,
        start: int = 0,
        length: int = 1000,
        num_people: tuple[int, int] = (1, 1),
        pipeline: Sequence[dict | Callable] = (),
    ):
        if task not in TASKS:
            raise ValueError(f"task is {task!r}; expected one of {', '.join(map(repr, TASKS))}")
        for name, value, least in (("size", size, 1), ("seed", seed, 0), ("start", start, 0), ("length", length, 1)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(f"{name} is {value!r}; expected a whole number, at least {least}")
        self.task, self.size, self.seed, self.start, self.length = task, int(size), int(seed), int(start), int(length)
        self.num_people = _people_range(num_people)
        self.pipeline = Compose([TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline])

    @property
    def metainfo(self) -> dict:
        """What the set is: ``dataset_type``, ``task``, ``classes`` for 'seg', and the arguments that choose it."""
        info = {
            "dataset_type": type(self).__name__,
            "task": self.task,
            "size": self.size,
            "seed": self.seed,
            "start": self.start,
            "length": self.length,
        }
        if self.task == "seg":
            info.update(classes=("background", "object"), palette=[(0, 0, 0), (255, 255, 255)])
        if self.task == "pose":
            info.update(num_keypoints=17, keypoint_layout="coco", num_people=self.num_people)
        return info

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        if not -self.length <= index < self.length:
            raise IndexError(f"index {index} is out of range for a window of {self.length} procedural scenes")
        return self.pipeline(self.scene(self.start + int(index) % self.length))

    def scene(self, sample_idx: int) -> dict:
        """The results dict of sample ``sample_idx`` of the endless source, before the pipeline."""
        entropy = [self.seed, TASKS.index(self.task), sample_idx]
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
        # Drawing at a whole multiple of the size and averaging gives smooth edges and the same look at small sizes.
        canvas = self.size * max(2, -(-256 // self.size))
        results = {
            "img_path": f"procedural/{self.task}/seed{self.seed}/{sample_idx}",
            "img_shape": (self.size, self.size),
            "ori_shape": (self.size, self.size),
            "img_channel_order": "rgb",
            "sample_idx": sample_idx,
            "task": self.task,
        }
        draw = {
            "seg": self._objects,
            "pose": self._people,
            "derain": self._rain,
            "image": self._clean,
            "boxes": self._box,
            "depth": self._depth,
        }[self.task]
        return results | draw(rng, canvas)

    def _objects(self, rng: np.random.Generator, canvas: int, count: int | None = None) -> dict:
        background = plan_background(rng, "objects")
        count = count or pick(rng, (1, 2, 3, 4), (4, 3, 2, 1))
        objects = plan_objects(rng, background.render(32), count)
        image, mask = background.render(canvas), np.zeros((canvas, canvas), dtype=np.uint8)
        draw_objects(image, mask, objects)
        foreground = (self._reduce(mask) >= 128).astype(np.uint8)
        return {"img": self._reduce(image), "gt_seg_map": foreground}

    def _people(self, rng: np.random.Generator, canvas: int) -> dict:
        background = plan_background(rng, "person")
        people = plan_people(rng, background.render(32), integer(rng, *self.num_people))
        image = background.render(canvas)
        draw_people(image, people)
        visible = np.stack([person.visible for person in people])
        pixels = np.stack([person.keypoints for person in people]) * self.size - 0.5
        boxes = np.stack([person.bbox for person in people]) * self.size
        return {
            "img": self._reduce(image),
            "keypoints": np.where(visible[..., None] > 0, pixels, 0.0).astype(np.float32),
            "keypoints_visible": visible,
            "bbox": boxes.astype(np.float32),
        }

    def _box(self, rng: np.random.Generator, canvas: int) -> dict:
        results = self._objects(rng, canvas, count=1)
        rows, columns = (np.flatnonzero(results["gt_seg_map"].any(axis)) for axis in (1, 0))
        # Below some pixels an object may vanish.
        edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if len(rows) else [0, 0, 1, 1]
        return results | {"bbox": np.array([edges], np.float32)}

    def _depth(self, rng: np.random.Generator, canvas: int) -> dict:
        image, depth = draw_room(plan_room(rng), canvas)
        step = canvas // self.size
        # One of the depths that a pixel shows: a mean of two is that of nothing.
        return {
            "img": self._reduce(image),
            "gt_depth_map": np.ascontiguousarray(depth[step // 2 :: step, step // 2 :: step]),
        }

    def _clean(self, rng: np.random.Generator, canvas: int) -> dict:
        return {"img": self._reduce(_draw_scene(rng, canvas))}

    def _rain(self, rng: np.random.Generator, canvas: int) -> dict:
        clean = _draw_scene(rng, canvas)
        return {"img": self._reduce(add_rain(rng, clean)), "gt_img": self._reduce(clean)}

    def _reduce(self, image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA)


def _draw_scene(rng: np.random.Generator, canvas: int) -> np.ndarray:
    """A clean scene, mostly a photograph, at times with objects and a person in it: RGB uint8 canvas x canvas x 3."""
    background = plan_background(rng, "photo")
    thumbnail = background.render(32)
    # A drawn person before a sharp photograph is no natural scene.
    company = 1 if rng.random() < 0.5 and background.kind != "photo" else 0
    items = 0 if company else pick(rng, (0, 1, 2, 3), (5, 2, 1, 1))
    objects = plan_objects(rng, thumbnail, items, radii=(0.08, 0.2))
    people = plan_people(rng, thumbnail, company, heights=(0.45, 0.85))
    clean = background.render(canvas)
    draw_objects(clean, None, objects)
    draw_people(clean, people)
    return clean


def _people_range(num_people: tuple[int, int]) -> tuple[int, int]:
    try:
        low, high = (int(count) for count in num_people if count == int(count))
    except (TypeError, ValueError):
        low, high = 0, 0
    if not 1 <= low <= high <= MAX_PEOPLE:
        raise ValueError(
            f"num_people is {num_people!r}; expected (smallest, largest) with 1 <= smallest <= largest <= {MAX_PEOPLE}"
        )
    return low, high
