"""What all readers share: a published data set on disk becomes results dicts for a pipeline."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from delvm_mm.datasets.readers.choosing import listed, regular_part
from delvm_mm.datasets.readers.io.files import IMAGE_SUFFIXES, refuse_twice
from delvm_mm.registry import TRANSFORMS

__all__ = ["IMAGE_SUFFIXES", "ReaderDataset", "list_images", "refuse_twice", "require_folder", "sorted_entries"]


class ReaderDataset(BaseDataset):
    """An MMEngine ``BaseDataset`` whose samples go through ``pipeline``; base of all readers.

    A reader lists its samples in ``load_data_list`` from folder and annotation files alone, opening no image, and
    checks there only what concerns all of them (folders, annotation files). What is wrong with one sample is an error
    when that sample is asked for, as ``ValueError`` or ``OSError`` that names its file, so that a run can skip it.

    Results dicts have ``img_path`` (file or name of the sample), ``sample_idx``, ``task``, ``view``, and the
    annotation under the field names that the transforms know. Images that are no files of their own (in archives,
    in LMDB) come as ``<key>_bytes``, the encoded file, which ``LoadImage`` decodes.

    Args:
        data_root: Folder of the data set, as published.
        pipeline: Transform configs (TRANSFORMS) or callables.
        indices: Use only these samples: the first n, or a list of positions.
        num_views: Samples made of each image: sample ``i`` is view ``i % num_views`` of image ``i // num_views``,
            e.g. the crops of ``SixCrop``.
        metainfo: Overrides entries of the data set's ``metainfo``.
        sample_list: Use only the samples that this text file names, in its order, from ``data_root`` on: in each line
            the end of an image's path, with or without suffix, or a folder.
        val_every: Every n-th image is of the part 'val', the others of 'train'; all samples of an image (or of a video)
            are of one part.
        part: With ``val_every``, 'train' or 'val': which to use.
        task: Name of the task, instead of the reader's own.

    Raises:
        FileNotFoundError: A folder or annotation file is missing.
        ValueError: An argument is out of range, or an annotation file is damaged.
    """

    METAINFO: dict = dict()  # MMEngine's name for what a data set is

    def __init__(
        self,
        data_root: str | Path,
        pipeline: Sequence[dict | Callable] = (),
        indices: int | Sequence[int] | None = None,
        num_views: int = 1,
        metainfo: dict | None = None,
        sample_list: str | Path | None = None,
        val_every: int | None = None,
        part: str | None = None,
        task: str | None = None,
        **kwargs: Any,
    ) -> None:
        if task is not None:
            metainfo = {**(metainfo or {}), "task": task}
        if (val_every is None) != (part is None) or part not in (None, "train", "val"):
            raise ValueError(f"part is {part!r} and val_every {val_every!r}, expected 'train' or 'val', and a number")
        if val_every is not None and (not isinstance(val_every, int) or val_every < 2):
            raise ValueError(f"val_every is {val_every!r}, expected a whole number, at least 2")
        self._choice = None if sample_list is None else Path(data_root, sample_list), val_every, part
        if num_views < 1:
            raise ValueError(f"num_views must be at least 1, got {num_views}")
        self.num_views = num_views
        # Built here, so that names of this package are found whatever the default scope is.
        steps = [TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline]
        super().__init__(
            data_root=str(data_root),
            data_prefix=dict(),
            pipeline=steps,
            indices=indices,
            metainfo=metainfo,
            test_mode=True,  # a sample that cannot be read is an error; no other takes its place
            **kwargs,
        )

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping[str, Any] | None = None) -> dict:
        """As given; MMEngine opens a text that is the name of a file, such as a task's, and warns of all others."""
        return {**copy.deepcopy(cls.METAINFO), **(metainfo or {})}

    @property
    def task(self) -> str:
        """Name of the task, e.g. 'pose'."""
        return self.metainfo["task"]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of what the samples are called and where their files are, in order."""
        names = hashlib.sha256()
        for index in range(super().__len__()):
            entry = super().get_data_info(index)
            names.update(repr(sorted((key, str(value)) for key, value in entry.items())).encode())
        return names.hexdigest()[:16]

    def __len__(self) -> int:
        """Number of samples, all views counted."""
        return super().__len__() * self.num_views

    def get_data_info(self, idx: int) -> dict:
        """Results dict of one sample before the pipeline.

        Args:
            idx: Position; negative counts from the end.

        Returns:
            What :meth:`read_sample` gives, with ``sample_idx``, ``view`` and ``task``.

        Raises:
            IndexError: There is no such sample.
        """
        number = idx + len(self) if idx < 0 else idx
        if not 0 <= number < len(self):
            raise IndexError(f"sample {idx} of {type(self).__name__}, which has {len(self)}")
        entry = super().get_data_info(number // self.num_views)
        sample = self.read_sample(entry)
        if "img" in sample:  # a loader of its own gives RGB, as all here do
            sample.setdefault("img_channel_order", "rgb")
        return sample | {"sample_idx": number, "view": number % self.num_views, "task": self.task}

    def filter_data(self) -> list[dict]:
        """The samples that ``sample_list``, ``val_every`` and ``part`` ask for; MMEngine calls it."""
        entries, (list_file, val_every, part) = self.data_list, self._choice
        if list_file is not None:
            paths = [str(entry["img_path"]) for entry in entries]
            entries = [entries[position] for position in listed(paths, self.data_root, list_file)]
        if part is not None:
            groups = [self.group_of(entry) for entry in entries]
            entries = [entries[position] for position in regular_part(groups, val_every, part)]
            if not entries:
                raise ValueError(f"{self.data_root} has too few samples for a part {part!r} with val_every={val_every}")
        return entries

    def group_of(self, entry: dict) -> str:
        """What an entry of ``load_data_list`` belongs to, which parts of the data set do not divide: its image."""
        return str(entry["img_path"])

    def read_sample(self, entry: dict) -> dict:
        """Make a results dict of an entry of ``load_data_list``; subclasses read per-sample annotation here.

        Returns:
            A copy of the entry, completed.

        Raises:
            ValueError, OSError: The sample is damaged; the message names its file.
        """
        return entry

    def read_json(self, path: str | Path) -> Any:
        """Content of a JSON file.

        Returns:
            Lists, dicts and plain values.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is no JSON; the message names the file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no annotation file at {path}: {type(self).__name__} needs it, see its docstring")
        return parse_json(path.read_bytes(), str(path))


def parse_json(content: bytes, name: str) -> Any:
    """Parse JSON.

    Returns:
        Lists, dicts and plain values.

    Raises:
        ValueError: It is none; the message gives ``name`` and the place.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{name} is no readable JSON ({error}): copy or download the file again") from error


def require_folder(path: str | Path, what: str) -> Path:
    """``path``, if it is a folder.

    Args:
        path: The folder.
        what: What it should hold, for the message.

    Returns:
        ``path`` as it was given.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder at {path}: expected {what}; check data_root and the data set's layout")
    return path


def list_images(folder: str | Path) -> list[Path]:
    """Image files of a folder (by suffix), sorted by path.

    Returns:
        At least one path.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no image.
    """
    folder = require_folder(folder, "images")
    images = images_in(folder)
    if not images:
        raise ValueError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return images


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder that is there (by suffix), sorted by path; maybe none."""
    return sorted_entries(entry for entry in folder.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES)


def sorted_entries(entries: Iterable[Path]) -> list[Path]:
    """Paths in an order that is the same on every file system; hidden files are left out."""
    return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.as_posix())
