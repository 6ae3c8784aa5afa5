"""Folders of weights as Hugging Face writes them: one file, or shards and an index that says what is in which."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

__all__ = ["SHARD_BYTES", "is_weight_folder", "save_weight_folder", "weight_files"]

SHARD_BYTES = 4 * 10**9
"""Most bytes of a file; more are spread over several."""

_NAMES = ("model.safetensors", "pytorch_model.bin")


def is_weight_folder(path: str | Path) -> bool:
    """Whether a path is a folder with ``model.safetensors``, ``pytorch_model.bin``, or the index of one in shards."""
    folder = Path(path)
    return any((folder / f"{name}{suffix}").is_file() for name in _NAMES for suffix in ("", ".index.json"))


def weight_files(folder: str | Path) -> dict[Path, list[str] | None]:
    """The files of a folder, and the names that each is to hold.

    Args:
        folder: Where :func:`is_weight_folder` holds. Safetensors come before pickles, a whole file before shards.

    Returns:
        File -> names, None where nothing says which.

    Raises:
        FileNotFoundError: There are no weights, or a shard is missing.
        ValueError: The index is damaged, or names files outside of the folder.
    """
    folder = Path(folder)
    for name in _NAMES:
        if (folder / name).is_file():
            return {folder / name: None}
        if (folder / f"{name}.index.json").is_file():
            return _shards(folder / f"{name}.index.json")
    raise FileNotFoundError(f"{folder} holds no weights: expected {' or '.join(_NAMES)}, or the index of one in shards")


def save_weight_folder(folder: str | Path, weights: Mapping[str, Tensor], shard_bytes: int = SHARD_BYTES) -> None:
    """Write ``model.safetensors``, or shards ``model-00001-of-00003.safetensors`` and their index.

    Args:
        folder: Is there, and gets a name of its own once it is whole: files in it are written as they come.
        weights: On any device.
        shard_bytes: Most bytes of tensors in a file; a larger tensor has a file of its own.
    """
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, value in weights.items():
        if shards[-1] and size + value.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += value.nbytes
    stem = _NAMES[0].removesuffix(".safetensors")
    files = [f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    if len(shards) == 1:
        files = [_NAMES[0]]
    for file, shard in zip(files, shards, strict=True):
        # Copies, as safetensors refuses tensors that share memory.
        plain = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in shard.items()}
        place = Path(folder) / file
        place.touch()
        mode = place.stat().st_mode
        save_file(plain, place, {"format": "pt"})
        place.chmod(mode)  # that of any new file; some versions of safetensors leave it to its owner alone
    if len(shards) > 1:
        total = sum(value.nbytes for value in weights.values())
        places = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        index = dict(metadata=dict(total_size=total), weight_map=places)
        (Path(folder) / f"{_NAMES[0]}.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(index: Path) -> dict[Path, list[str] | None]:
    try:
        places = dict(json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{index} is no index of shards: expected a JSON object with 'weight_map' ({error})"
        ) from error
    files: dict[Path, list[str] | None] = {}
    for name, file in places.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise ValueError(f"{index}: {name!r} is in {file!r}, expected the name of a file in the same folder")
        files.setdefault(index.parent / file, []).append(name)
    if not files:
        raise ValueError(f"{index} names no weights; copy it again")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{index.parent} lacks {', '.join(missing)} ({len(missing)} of {len(files)} shards in {index.name}); "
            "copy or download them"
        )
    return files
