"""Reading an image file into an RGB array, with one clear error for every way in which a file can be broken."""

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from delvm_mm.datasets.readers.io.files import present

MAX_PIXELS = 80_000_000
"""Images with more pixels are refused before they are decoded: just below the limit of Pillow's own warning."""

_EXIF_ORIENTATION = 0x0112

DECODING_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error, zlib.error),
    *(TypeError, AttributeError, ArithmeticError, AssertionError, RuntimeError),
)
"""Whatever Pillow's parsers stumble over in a damaged file."""


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS, content: bytes | None = None) -> np.ndarray:
    """Read an image file as RGB.

    Gray and palette images become RGB, an alpha channel is dropped (as mmcv and torchvision do), 16-bit gray is
    scaled to 8 bits, an EXIF orientation is applied, of an animation the first frame is taken.

    Args:
        path: The image file, in any format that Pillow reads.
        max_pixels: An image with more pixels than this is refused by its header, without decoding it.
        content: The encoded file, where it is no file of its own (in an archive, in a data base); ``path`` is then
            only its name in messages.

    Returns:
        uint8 array H x W x 3, RGB, writable.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, truncated, too large, or not an image.
    """
    path = Path(path) if content is not None else present(path)
    if content is None:
        if not path.exists():
            raise FileNotFoundError(f"no image at {path}: check the path and the data root of the dataset")
        if not path.is_file():
            raise ValueError(f"{path} is not a file: expected an image file")
    if (path.stat().st_size if content is None else len(content)) == 0:
        raise ValueError(f"{path} has 0 bytes: expected an image; copy or download the file again")
    try:
        with warnings.catch_warnings():
            # Pillow warns from its own limit on; the limit here is checked below and is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path if content is None else io.BytesIO(content))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image in a format that Pillow {Image.__version__} reads") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is refused as too large to decode: {error}") from error
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    with opened:
        width, height = opened.size
        if width * height > max_pixels:
            raise ValueError(
                f"{path} has {width}x{height} pixels, more than the {max_pixels} allowed: "
                "shrink the file, or raise max_pixels if it is what it should be"
            )
        if width == 0 or height == 0:
            raise ValueError(f"{path} has {width}x{height} pixels: expected at least one")
        try:
            opened.load()
            return np.array(_to_rgb(_upright(opened), path))
        except DECODING_ERRORS as error:
            if str(path) in str(error):
                raise
            raise ValueError(f"{path} is damaged or truncated ({error}): copy or download the file again") from error


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height of an image as ``read_image`` gives it, by its header alone.

    Returns:
        (W, H) in pixels with the EXIF orientation applied; None where the header cannot be read: reading the image
        says why.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(present(path)) as image:
                width, height = image.size
                turned = image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:  # a damaged file may raise anything; this is not the place to name it
        return None
    return (height, width) if turned else (width, height)


def turned_by_exif(path: str | Path, size: Sequence[int]) -> str:
    """Why sizes differ, where an EXIF orientation is why.

    Args:
        path: The image file.
        size: Width and height that something else says it has.

    Returns:
        A clause for the end of a message; '' where it is not why.
    """
    upright = image_size(path)
    if upright is None or upright != (size[1], size[0]) or upright[0] == upright[1]:
        return ""
    with Image.open(present(path)) as image:
        if image.size != tuple(size):
            return ""
    return (
        ". Its EXIF orientation, which is applied here, turns it by a quarter, and the other size is that before it: "
        "turn the annotations too, or save the image without the orientation"
    )


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; damaged EXIF is left aside, as the pixels may be sound."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """RGB form of a decoded image of any mode; Pillow's own conversion clips 16-bit values instead of scaling."""
    if image.mode == "F":
        raise ValueError(f"{path} holds floating-point values, which have no defined range: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"{path} holds integers from {values.min()} to {values.max()}: expected 8 or 16 bits per channel"
            )
        if 0 < values.max() < 256:
            raise ValueError(
                f"{path} holds 16-bit values of {values.max()} at most, which is black: save it with 8 bits, or "
                "scale it; if these are classes, they have to be drawn"
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
    colors = image.convert("RGB")
    if "A" in image.getbands():
        (lowest, highest), alpha = zip(*colors.getextrema(), strict=True), image.getchannel("A").getextrema()
        if lowest == highest and alpha[0] != alpha[1]:
            raise ValueError(f"{path} shows nothing but in its transparency, which is not looked at: save it without")
    return colors
