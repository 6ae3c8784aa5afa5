"""Small copies of restoration, video and image data sets, in the layouts in which they are published.

Each function writes under a folder and returns the image files (in an LMDB: the keys) of the samples, in the order
in which a reader gives them. Images are drawn scenes, so that a sheet of them can be judged by eye.
"""

import shutil
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from delvm_mm.datasets import ProceduralScenes

RAIN_TEST_SETS = ("Rain100H", "Rain100L", "Test100", "Test1200", "Test2800")


@lru_cache(maxsize=256)
def scene(task: str, number: int, height: int, width: int) -> dict:
    """Images of a drawn scene, cut to H x W: 'img', and for 'derain' the clean one, 'gt_img'."""
    results = ProceduralScenes(task=task, size=max(height, width), start=number, length=1)[0]
    return {key: results[key][:height, :width] for key in ("img", "gt_img") if key in results}


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **({"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {}))
    return path


def write_pairs(
    root: Path, count: int = 4, size=(48, 64), suffix: str = ".jpg", target_suffix: str | None = None, first: int = 0
) -> list[Path]:
    """``input/1.jpg`` and ``target/1.jpg`` and so on: rainy and clean images."""
    inputs = []
    for number in range(1, count + 1):
        images = scene("derain", first + number, *size)
        inputs.append(save(root / "input" / f"{number}{suffix}", images["img"]))
        save(root / "target" / f"{number}{target_suffix or suffix}", images["gt_img"])
    return sorted(inputs)


def write_rain13k(root: Path, train: int = 4, test: int = 2, size=(48, 64)) -> list[Path]:
    """Rain13K and its test sets as MPRNet and Restormer distribute them; returns the training inputs."""
    for place, name in enumerate(RAIN_TEST_SETS, 1):
        write_pairs(root / "test" / name, test, size, suffix=".png", first=1000 * place)
    return write_pairs(root / "train" / "Rain13K", train, size)


def write_lmdb(folder: Path, images: dict[str, np.ndarray], compress_level: int = 1) -> list[str]:
    """An LMDB in BasicSR's form: PNG under the name without suffix, and ``meta_info.txt``."""
    import lmdb

    folder.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=1 << 28) as environment, environment.begin(write=True) as transaction:
        for key, image in images.items():
            _, content = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, compress_level])
            transaction.put(key.encode("ascii"), content.tobytes())
    lines = [f"{key}.png ({h},{w},{c}) {compress_level}\n" for key, (h, w, c) in _shapes(images).items()]
    (folder / "meta_info.txt").write_text("".join(lines))
    return list(images)


def write_rain_lmdb(root: Path, train: int = 4, test: int = 2, size=(48, 64)) -> list[str]:
    """The images of :func:`write_rain13k` as ``input.lmdb`` and ``target.lmdb``; returns the training keys."""
    sets = {"train/Rain13K": (train, 0)} | {f"test/{n}": (test, 1000 * i) for i, n in enumerate(RAIN_TEST_SETS, 1)}
    for place, (count, first) in sets.items():
        scenes = {str(number): scene("derain", first + number, *size) for number in range(1, count + 1)}
        # BasicSR lists the keys sorted as text.
        for half, key in (("input", "img"), ("target", "gt_img")):
            write_lmdb(root / place / f"{half}.lmdb", {name: scenes[name][key] for name in sorted(scenes)})
    return sorted(map(str, range(1, train + 1)))


def write_gopro(root: Path, sequences: int = 2, frames: int = 3, size=(48, 64)) -> list[Path]:
    """``GOPRO_Large`` with a camera that pans over scenes; returns the blurred training images."""
    blurred = []
    names = {"train": ("GOPR0372_07_00", "GOPR0374_11_01"), "test": ("GOPR0384_11_00", "GOPR0385_11_01")}
    for split, start in (("train", 0), ("test", 100)):
        for place, name in enumerate(names[split][:sequences]):
            for frame in range(frames):
                sharp, blur, blur_gamma = _pan(start + place, frame, *size)
                folder, file = root / split / name, f"{47 + frame:06d}.png"
                save(folder / "sharp" / file, sharp)
                save(folder / "blur_gamma" / file, blur_gamma)
                path = save(folder / "blur" / file, blur)
                blurred += [path] if split == "train" else []
    return blurred


def write_frame_folders(root: Path, videos: int = 2, frames: int = 11, size=(48, 64)) -> dict[str, list[Path]]:
    """``video_a/frame1.jpg`` to ``frame11.jpg`` and so on; returns the frames of each video in their order in time."""
    return {
        f"video_{chr(97 + video)}": [
            save(root / f"video_{chr(97 + video)}" / f"frame{number + 1}.jpg", _pan(200 + video, number, *size)[0])
            for number in range(frames)
        ]
        for video in range(videos)
    }


def write_image_folder(root: Path, count: int = 4, size=(48, 64)) -> list[Path]:
    """Images of several kinds, half of them in sub-folders."""
    suffixes = (".jpg", ".png", ".JPEG", ".webp")
    folders = ("", "more", "", "more/deep")
    return sorted(
        save(root / folders[n % 4] / f"image{n}{suffixes[n % 4]}", scene("seg", 300 + n, *size)["img"])
        for n in range(count)
    )


def write_imagenet(root: Path, form: str = "folders", count: int = 4, size=(48, 64)) -> None:
    """ImageNet for mmpretrain: 'folders', 1000 classes with an image each, or 'meta', a list of ``count`` images."""
    images = [scene("seg", 400 + number, *size)["img"] for number in range(4)]
    if form == "meta":
        for split in ("train", "val"):
            lines = []
            for number in range(count):
                folder = "n01440764/" if split == "train" else ""
                name = f"{folder}n01440764_{number}.JPEG" if folder else f"ILSVRC2012_val_{number + 1:08d}.JPEG"
                save(root / split / name, images[number % 4])
                lines.append(f"{name} {0 if folder else 65 + number}\n")
            (root / "meta").mkdir(parents=True, exist_ok=True)
            (root / "meta" / f"{split}.txt").write_text("".join(lines))
        return
    source = save(root / "train" / "n01440764" / "n01440764_10026.JPEG", images[0])
    for number in range(1000):
        wordnet = f"n{1440764 + number:08d}"
        for split, name in (("train", f"{wordnet}_10026.JPEG"), ("val", f"ILSVRC2012_val_{number + 1:08d}.JPEG")):
            (root / split / wordnet).mkdir(parents=True, exist_ok=True)
            if root / split / wordnet / name != source:
                shutil.copy(source, root / split / wordnet / name)


def _pan(number: int, frame: int, height: int, width: int, steps: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A sharp frame, and the same with the light of ``steps`` pixels of movement added up, linear and with gamma."""
    wide = scene("derain", number, height, 2 * width)["gt_img"].astype(np.float64)
    left = frame * steps % (width - steps)
    views = np.stack([wide[:, left + step : left + step + width] for step in range(steps)])
    gamma = 255 * (((views / 255) ** 2.2).mean(0) ** (1 / 2.2))
    return tuple(np.round(image).astype(np.uint8) for image in (views[steps // 2], views.mean(0), gamma))


def _shapes(images: dict[str, np.ndarray]) -> dict[str, tuple[int, int, int]]:
    return {key: image.shape for key, image in images.items()}
