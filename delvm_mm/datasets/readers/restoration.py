"""Readers of degraded and clean images in pairs: any two folders, the deraining sets, GoPro."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from delvm_mm.datasets.readers.base import IMAGE_SUFFIXES, ReaderDataset, images_in, require_folder, sorted_entries
from delvm_mm.datasets.readers.io.files import one_form
from delvm_mm.datasets.readers.io.lmdb import LmdbImages
from delvm_mm.registry import DATASETS

__all__ = ["GoProDataset", "PairedFolderDataset", "RainDataset"]

RAIN_TEST_SETS = ("Rain100H", "Rain100L", "Test100", "Test1200", "Test2800")


@DATASETS.register_module()
class PairedFolderDataset(ReaderDataset):
    """Two folders of images, paired by file name without suffix.

    Layout::

        data_root/
        ├── input/    1.jpg, 2.jpg, ...    what the model sees
        └── target/   1.png, 2.png, ...    what it should make of it

    A folder whose name ends in ``.lmdb`` is read as an LMDB in BasicSR's form, see ``LmdbImages``.

    Samples are all inputs, sorted by path (in an LMDB, in the order of ``meta_info.txt``), and then the targets that
    have no input. An image without its other half is an error when the sample is read, so that it is not overlooked.

    Results have ``img_path`` and ``gt_img_path`` (from an LMDB also ``img_bytes`` and ``gt_img_bytes``), which
    ``LoadImage(key='img')`` and ``LoadImage(key='gt_img')`` load.

    Args:
        data_root: Folder of the data set.
        input_dir: Folder of the inputs under ``data_root``.
        target_dir: Folder of the targets under ``data_root``.
        **kwargs: ``task``, ``metainfo``, ``pipeline`` and others of ``ReaderDataset``.

    Raises:
        FileNotFoundError: A folder is missing.
        ImportError: An LMDB is to be read, and ``lmdb`` is not installed.
        ValueError: A folder holds no image, or only one of the two is an LMDB.
    """

    METAINFO: dict = dict(task="restoration")

    def __init__(
        self,
        data_root: str | Path,
        input_dir: str | Path = "input",
        target_dir: str | Path = "target",
        **kwargs: Any,
    ) -> None:
        self.input_dir, self.target_dir = str(input_dir), str(target_dir)
        self._lmdbs: tuple[LmdbImages, LmdbImages] | None = None
        super().__init__(data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the pairs."""
        inputs, targets = Path(self.data_root, self.input_dir), Path(self.data_root, self.target_dir)
        if (inputs.suffix == ".lmdb") != (targets.suffix == ".lmdb"):
            raise ValueError(f"{inputs} and {targets}: expected two LMDBs or two folders of images, not one of each")
        if inputs.suffix == ".lmdb":
            self._lmdbs = LmdbImages(inputs), LmdbImages(targets)
            return _pair_lmdbs(*self._lmdbs)
        return _pair_folders([(inputs, targets)])

    def read_sample(self, entry: dict) -> dict:
        """Add the encoded images of an LMDB.

        Returns:
            The entry; of an LMDB with ``img_bytes`` and ``gt_img_bytes``.

        Raises:
            ValueError: The image has no other half, or the LMDB is damaged.
        """
        if "problem" in entry:
            raise ValueError(entry["problem"])
        key = entry.pop("lmdb_key", None)
        if key is not None and self._lmdbs is not None:
            entry["img_bytes"], entry["gt_img_bytes"] = (images.read(key) for images in self._lmdbs)
        return entry


@DATASETS.register_module()
class RainDataset(PairedFolderDataset):
    """Rain13K for training and the five usual test sets of deraining, as MPRNet and Restormer distribute them.

    Layout, see `MPRNet <https://github.com/swz30/MPRNet/blob/main/Deraining/Datasets/README.md>`_ and
    `Restormer <https://github.com/swz30/Restormer/blob/main/Deraining/README.md>`_::

        data_root/
        ├── train/
        │   └── Rain13K/
        │       ├── input/     1.jpg, 2.jpg, ...   in rain; 13 711 images
        │       └── target/    1.jpg, 2.jpg, ...   clean
        └── test/
            ├── Rain100H/
            │   ├── input/
            │   └── target/    100 pairs
            ├── Rain100L/      100 pairs
            ├── Test100/       98 pairs
            ├── Test1200/      1200 pairs
            └── Test2800/      2800 pairs

    ``train/{input,target}`` and ``Rain13K/{input,target}`` are found as well, and the test sets also without
    ``test/``; ``data_root`` may also be the folder of the split itself, such as ``rain100L``. In the LMDB form, which
    NAFNet and others train on, ``input.lmdb/`` and ``target.lmdb/`` stand in the place of ``input/`` and ``target/``;
    see ``LmdbImages``.

    Args:
        data_root: Folder that holds ``train`` and ``test``.
        split: 'train', 'Rain100H', 'Rain100L', 'Test100', 'Test1200' or 'Test2800'.
        form: 'folder' or 'lmdb'.
        **kwargs: As ``PairedFolderDataset``.

    Raises:
        FileNotFoundError: The folders are not there; the message says where they were looked for.
        ImportError: ``form`` is 'lmdb', and ``lmdb`` is not installed.
        ValueError: ``split`` or ``form`` is another, or a folder holds no image.
    """

    METAINFO: dict = dict(task="derain")

    def __init__(self, data_root: str | Path, split: str = "train", form: str = "folder", **kwargs: Any) -> None:
        if split not in ("train", *RAIN_TEST_SETS):
            raise ValueError(f"RainDataset: split is {split!r}, expected 'train' or one of {RAIN_TEST_SETS}")
        if form not in ("folder", "lmdb"):
            raise ValueError(f"RainDataset: form is {form!r}, expected 'folder' or 'lmdb'")
        self.split, self.form = split, form
        folder = _find_rain_folder(require_folder(data_root, "a deraining data set"), split, form)
        ending = _rain_ending(form)
        super().__init__(data_root, f"{folder}/input{ending}", f"{folder}/target{ending}", **kwargs)


@DATASETS.register_module()
class GoProDataset(PairedFolderDataset):
    """GoPro (GOPRO_Large): blurred and sharp video frames, for deblurring.

    Layout, as `published <https://seungjunnah.github.io/Datasets/gopro>`_ (Nah et al., CVPR 2017), 720 x 1280 pixels::

        GOPRO_Large/
        ├── train/                      22 sequences, 2103 pairs
        │   ├── GOPR0372_07_00/
        │   │   ├── blur/               000047.png, 000048.png, ...
        │   │   ├── blur_gamma/         000047.png, 000048.png, ...
        │   │   └── sharp/              000047.png, 000048.png, ...
        │   └── ...
        └── test/                       11 sequences, 1111 pairs

    Args:
        data_root: The folder ``GOPRO_Large``.
        split: 'train' or 'test'.
        blur: 'blur' (blurred with a linear camera response) or 'blur_gamma' (with a gamma-corrected one).
        **kwargs: As ``PairedFolderDataset``.

    Raises:
        FileNotFoundError: The folder of the split is missing.
        ValueError: ``split`` or ``blur`` is another, or there are no images of one kind.
    """

    METAINFO: dict = dict(task="deblur")

    def __init__(self, data_root: str | Path, split: str = "train", blur: str = "blur", **kwargs: Any) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"GoProDataset: split is {split!r}, expected 'train' or 'test'")
        if blur not in ("blur", "blur_gamma"):
            raise ValueError(f"GoProDataset: blur is {blur!r}, expected 'blur' or 'blur_gamma'")
        self.split = split
        super().__init__(data_root, input_dir=blur, target_dir="sharp", **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the pairs of all sequences."""
        folder = require_folder(Path(self.data_root, self.split), "the sequences of GOPRO_Large")
        sequences = [entry for entry in sorted_entries(folder.iterdir()) if entry.is_dir()]
        if not sequences:
            raise ValueError(f"{folder} holds no sequence: expected folders such as GOPR0372_07_00 in it")
        return _pair_folders([(sequence / self.input_dir, sequence / self.target_dir) for sequence in sequences])


def _rain_ending(form: str) -> str:
    return ".lmdb" if form == "lmdb" else ""


def _find_rain_folder(root: Path, split: str, form: str) -> str:
    """Where the inputs and targets of a split are, relative to ``root``."""
    places = ("train/Rain13K", "train", "Rain13K") if split == "train" else (f"test/{split}", split)
    if root.resolve().name.casefold() in {place.rpartition("/")[2].casefold() for place in places}:
        places += (".",)
    for place in places:
        if (root / place / f"input{_rain_ending(form)}").is_dir():
            return place
    other = "folder" if form == "lmdb" else "lmdb"
    found = [place for place in places if (root / place / f"input{_rain_ending(other)}").is_dir()]
    advice = f"{found[0]} has the other form, pass form={other!r}" if found else "check data_root"
    looked = " or ".join(f"{place}/input{_rain_ending(form)}" for place in places)
    raise FileNotFoundError(f"no {looked} in {root}, which RainDataset needs for split {split!r}: {advice}")


def _pair_folders(folders: Sequence[tuple[Path, Path]]) -> list[dict]:
    """Pairs of one or several folders of inputs and targets.

    Returns:
        An entry for each input, with the paths of both.

    Raises:
        FileNotFoundError: There is one pair of folders, and one of them is missing.
        ValueError: No folder of inputs, or no folder of targets, holds an image.
    """
    if len(folders) == 1:
        for folder in folders[0]:
            require_folder(folder, "images")
    listed = [(inputs, _images(inputs), targets, _images(targets)) for inputs, targets in folders]
    for folder, kind in ((0, 1), (2, 3)):
        if not any(item[kind] for item in listed):
            more = f" and the {len(listed) - 1} other folders like it hold" if len(listed) > 1 else " holds"
            raise ValueError(f"{listed[0][folder]}{more} no image ({', '.join(IMAGE_SUFFIXES)})")
    return [entry for item in listed for entry in _pair_images(*item)]


def _images(folder: Path) -> list[Path]:
    return images_in(folder) if folder.is_dir() else []


def _pair_images(input_dir: Path, inputs: list[Path], target_dir: Path, targets: list[Path]) -> list[dict]:
    """Pair by name without suffix; where several targets have it, the suffix has to be the same too."""
    by_stem: dict[str, list[Path]] = {}
    for target in targets:
        by_stem.setdefault(one_form(target.stem), []).append(target)
    entries, named = [], set()
    names = Counter(one_form(image.stem) for image in inputs)
    for image in inputs:
        candidates = by_stem.get(one_form(image.stem), [])
        same = [target for target in candidates if one_form(target.name) == one_form(image.name)]
        candidates = same or candidates
        named.update(candidates)
        entry = {"img_path": str(image)}
        if len(candidates) == 1 and names[one_form(image.stem)] > 1 and not same:
            entry["problem"] = (
                f"{image} is not the only input named {image.stem}, and {candidates[0]} one target: keep one"
            )
        elif len(candidates) == 1:
            entry["gt_img_path"] = str(candidates[0])
        elif candidates:
            entry["problem"] = f"{image} has several targets, {', '.join(map(str, candidates))}: keep one"
        else:
            entry["problem"] = _without_pair(image, "target", target_dir / f"{image.stem}.*")
        entries.append(entry)
    return entries + [
        {"img_path": str(target), "problem": _without_pair(target, "input", input_dir / f"{target.stem}.*")}
        for target in targets
        if target not in named
    ]


def _pair_lmdbs(inputs: LmdbImages, targets: LmdbImages) -> list[dict]:
    of_targets = {entry.key: entry for entry in targets.entries()}
    of_inputs = inputs.entries()
    entries = []
    for key, problem in of_inputs:
        name, target_name = f"{inputs.path / key}.png", f"{targets.path / key}.png"
        entry = {"img_path": name, "gt_img_path": target_name, "lmdb_key": key}
        target = of_targets.get(key)
        problem = problem or (target.problem if target else _without_pair(name, "target", target_name))
        entries.append(entry | ({"problem": problem} if problem else {}))
    for key in sorted(of_targets.keys() - {key for key, _ in of_inputs}):
        name = f"{targets.path / key}.png"
        problem = of_targets[key].problem or _without_pair(name, "input", f"{inputs.path / key}.png")
        entries.append({"img_path": name, "problem": problem})
    return entries


def _without_pair(name: str | Path, other: str, expected: str | Path) -> str:
    return f"{name} has no {other}: expected one at {expected}; copy the missing image, or remove this one"
