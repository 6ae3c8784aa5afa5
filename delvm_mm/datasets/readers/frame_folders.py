"""Reader of videos that lie on disk as folders of frames."""

import logging
import re
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from delvm_mm.datasets.readers.base import ReaderDataset
from delvm_mm.datasets.readers.image_folder import walk_folders
from delvm_mm.registry import DATASETS

__all__ = ["FrameFolderDataset", "natural_key"]


@DATASETS.register_module()
class FrameFolderDataset(ReaderDataset):
    """Clips of consecutive frames; every folder that holds images is a video.

    Layout, at any depth::

        data_root/
        ├── video_a/
        │   ├── frame1.jpg
        │   ├── frame2.jpg
        │   └── frame10.jpg     after frame2: numbers in names are compared as numbers
        └── more/
            └── video_b/
                └── ...

    A video of n frames has ``(n - span) // clip_step + 1`` clips, where ``span = (clip_length - 1) * stride + 1``.
    Frames left over at its end are not used; videos shorter than one clip are named in a warning.

    Results have ``frame_paths``, ``clip_length`` files that ``LoadFrames`` loads, and ``img_path``, the first of them.
    ``PackClip(keys=('frames',))`` packs the clip.

    Args:
        data_root: The folder of videos, or one video.
        clip_length: Frames of a clip.
        stride: From one frame of a clip to its next; 1 takes every frame of the video.
        clip_step: From the first frame of a clip to the first of the next. Default: ``clip_length * stride``, where
            clips do not overlap.
        **kwargs: As ``ReaderDataset``.

    Raises:
        OSError: The folder, or one in it, is missing or cannot be listed.
        ValueError: A number is below 1, there is no image, or no video is long enough.
    """

    METAINFO: dict = dict(task="video")

    def __init__(
        self,
        data_root: str | Path,
        clip_length: int = 8,
        stride: int = 1,
        clip_step: int | None = None,
        **kwargs: Any,
    ) -> None:
        clip_step = clip_length * stride if clip_step is None else clip_step
        for name, value in (("clip_length", clip_length), ("stride", stride), ("clip_step", clip_step)):
            if value < 1:
                raise ValueError(f"FrameFolderDataset: {name} must be at least 1, got {value}")
        self.clip_length, self.stride, self.clip_step = clip_length, stride, clip_step
        super().__init__(data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the clips."""
        videos = {folder: frames for folder, frames in walk_folders(self.data_root) if frames}
        if not videos:
            raise ValueError(f"{self.data_root} and the folders in it hold no image: expected folders of frames")
        span = (self.clip_length - 1) * self.stride + 1
        clips: list[dict] = []
        short = []
        for folder in sorted(videos, key=lambda folder: [natural_key(part) for part in folder.parts]):
            frames = [str(frame) for frame in sorted(videos[folder], key=lambda frame: natural_key(frame.name))]
            if len(frames) < span:
                short.append(f"{folder} ({len(frames)})")
            for start in range(0, len(frames) - span + 1, self.clip_step):
                clips.append(
                    {"img_path": frames[start], "frame_paths": frames[start : start + span : self.stride]},
                )
        if not clips:
            raise ValueError(
                f"no video under {self.data_root} has the {span} frames of a clip (clip_length {self.clip_length}, "
                f"stride {self.stride}); folders and their frames: {_few(short)}"
            )
        if short:
            print_log(
                f"{len(short)} of {len(videos)} videos under {self.data_root} give no clip, a clip has {span} frames; "
                f"folders and their frames: {_few(short)}",
                logger="current",
                level=logging.WARNING,
            )
        return clips

    def group_of(self, entry: dict) -> str:
        """The video of a clip."""
        return str(Path(entry["img_path"]).parent)


def natural_key(name: str) -> tuple:
    """Sort key that compares numbers in a name as numbers: 'frame2' before 'frame10'."""
    parts = re.split(r"(\d+)", name)
    # Text and numbers take turns, text first, so that like is compared with like; 'a01' and 'a1' differ in the end.
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts)), name


def _few(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
