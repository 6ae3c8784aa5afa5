"""Many masks in one integer map: COCO run-length encodings (or bool masks) painted on top of each other.

Decoding a hundred masks of a large image to pixels costs more than reading the image. Only their runs are decoded
here, all characters of a mask at once, and painted straight into the map.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

__all__ = ["MAX_PIXELS", "instance_map", "rle_runs"]

MAX_PIXELS = 80_000_000
"""Larger maps are refused before they are allocated: as large as the images that readers accept."""

# pycocotools' counts have 32 bits, 5 to a character.
_MAX_CHARACTERS = 7


def instance_map(
    masks: Sequence[dict] | np.ndarray, shape: tuple[int, int] | None = None, min_area: int = 1
) -> np.ndarray:
    """Paint masks into one map, the largest first: where masks overlap, the smallest is what is seen.

    Args:
        masks: COCO RLE dicts with ``size`` (H, W) and ``counts``, compressed (str or bytes) or a list of integers, or
            annotations that have one as ``segmentation``, as in SA-1B; or an array N x H x W of bool.
        shape: (H, W) of the image. Default: the size of the masks.
        min_area: masks with fewer pixels are left out. Empty ones always are.

    Returns:
        H x W, uint16 (int32 if there are more than 65535 masks): 0 where there is no mask, else 1..N in the order of
        area, 1 the largest; of masks with the same area the later one has the larger number.

    Raises:
        ValueError: a mask is no RLE, is damaged or is of another size than the image.

    Example:
        >>> instance_map([dict(size=[2, 3], counts=[4, 1, 1]), dict(size=[2, 3], counts=[0, 6])]).tolist()
        [[1, 1, 2], [1, 1, 1]]
    """
    if isinstance(masks, np.ndarray):
        return _map_of_arrays(masks, shape, min_area)
    if shape is None:
        if not len(masks):
            raise ValueError("there are no masks, and no shape: give the image's (height, width)")
        shape = _of_mask(0, _size, masks[0])
    height, width = _checked_shape(shape)
    edges = [_of_mask(number, _edges, mask, (height, width)) for number, mask in enumerate(masks)]
    areas = np.array([np.sum(stops - starts) for starts, stops in edges], np.int64)
    # RLE runs down the columns, so the map is painted transposed.
    columns = np.zeros(width * height, _dtype(len(edges)))
    for number, mask in enumerate(_paint_order(areas, min_area), 1):
        starts, stops = edges[mask]
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            columns[start:stop] = number
    return cv2.transpose(columns.reshape(width, height))


def rle_runs(counts: str | bytes | Sequence[int]) -> np.ndarray:
    """Lengths of the runs of a COCO RLE: background, foreground, background, ...

    A compressed number takes 5 bits of a character, least significant first; bit 6 says that more follow, the last
    character's bit 5 is the sign. From the fourth number on, differences to the number two before are stored. (Format:
    ``rleToString`` in cocoapi's ``maskApi.c``.)

    Args:
        counts: compressed, or the numbers themselves.

    Returns:
        int64.

    Raises:
        ValueError: these are no counts.
    """
    if isinstance(counts, str | bytes):
        return _decompressed(counts)
    try:
        numbers = np.asarray(counts)
    except ValueError:  # lists of different lengths in a list
        numbers = np.empty((0, 0))
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise ValueError(f"counts are {_short(counts)}, expected a string (compressed RLE) or a list of integers")
    if numbers.size and int(numbers.max()) >= 2**32:
        raise ValueError(f"counts reach {numbers.max()}, more than any image has pixels")
    return numbers.astype(np.int64)


def _decompressed(counts: str | bytes) -> np.ndarray:
    content = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
    if not content:
        return np.empty(0, np.int64)
    # Bytes of what is not ASCII are above 127.
    characters = np.frombuffer(content, np.uint8).astype(np.int64) - ord("0")
    if characters.min() < 0 or characters.max() > 63:
        raise ValueError(f"counts {_short(counts)} have other characters than compressed RLE ('0' to 'o')")
    last = np.flatnonzero(characters < 32)
    if not last.size or last[-1] != len(characters) - 1:
        raise ValueError(f"counts {_short(counts)} end within a number: the string was cut")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _MAX_CHARACTERS:
        raise ValueError(f"counts {_short(counts)} hold a number of {lengths.max()} characters, too large")
    places = np.arange(len(characters)) - np.repeat(first, lengths)
    numbers = np.add.reduceat((characters & 31) << 5 * places, first)
    numbers -= ((characters[last] & 16) > 0) * (1 << 5 * lengths)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _edges(mask: Any, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of foreground start and stop, in pixels counted down the columns."""
    size = _size(mask)
    if size != shape:
        raise ValueError(f"its size is {_by(size)} (height x width), the image's is {_by(shape)}")
    rle = _rle(mask)
    if "counts" not in rle:
        raise ValueError(f"no 'counts' in {_short(rle)}")
    runs = rle_runs(rle["counts"])
    if runs.size and runs.min() < 0:
        raise ValueError("a run has a negative length: the counts are damaged")
    if runs.sum() != shape[0] * shape[1]:
        raise ValueError(f"the runs have {runs.sum()} pixels in all, its size {_by(shape)} has {shape[0] * shape[1]}")
    ends = np.cumsum(runs)
    stops = ends[1::2]
    return ends[0::2][: len(stops)], stops


def _rle(mask: Any) -> dict:
    rle = mask.get("segmentation", mask) if isinstance(mask, dict) else mask
    if not isinstance(rle, dict):
        raise ValueError(f"got {_short(rle)}, expected COCO RLE: a dict with 'size' and 'counts'")
    return rle


def _size(mask: Any) -> tuple[int, int]:
    size = _rle(mask).get("size")
    if not isinstance(size, list | tuple) or [type(side) for side in size] != [int, int]:
        raise ValueError(f"its size is {_short(size)}, expected [height, width]")
    return tuple(size)


def _of_mask(number: int, function: Any, *arguments: Any) -> Any:
    """Call, and put the number of the mask before the message of an error."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise ValueError(f"mask {number}: {error}") from error


def _map_of_arrays(masks: np.ndarray, shape: tuple[int, int] | None, min_area: int) -> np.ndarray:
    if masks.ndim != 3 or masks.dtype != bool:
        raise ValueError(f"masks are {masks.dtype} of shape {masks.shape}, expected bool N x H x W")
    if shape is not None and tuple(shape) != masks.shape[1:]:
        raise ValueError(f"masks are of {_by(masks.shape[1:])}, the image has {_by(shape)} (height x width)")
    painted = np.zeros(_checked_shape(masks.shape[1:]), _dtype(len(masks)))
    areas = np.count_nonzero(masks, axis=(1, 2))
    for number, mask in enumerate(_paint_order(areas, min_area), 1):
        painted[masks[mask]] = number
    return painted


def _paint_order(areas: np.ndarray, min_area: int) -> list[int]:
    """Numbers of the masks that are kept, from the largest to the smallest."""
    order = np.argsort(-areas, kind="stable")
    return order[areas[order] >= max(min_area, 1)].tolist()


def _checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    height, width = int(shape[0]), int(shape[1])
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"a map of {_by(shape)} (height x width) is outside 1 to {MAX_PIXELS} pixels")
    return height, width


def _dtype(masks: int) -> type:
    return np.uint16 if masks < 2**16 else np.int32


def _by(shape: Sequence[int]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
