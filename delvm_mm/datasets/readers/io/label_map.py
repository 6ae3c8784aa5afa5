"""Values of label maps and masks in image files, where a number is a class and no brightness."""

from pathlib import Path

import numpy as np
from PIL import Image

from delvm_mm.datasets.readers.io.files import present
from delvm_mm.datasets.readers.io.image import DECODING_ERRORS, MAX_PIXELS

__all__ = ["read_label_values", "read_values"]


def read_values(path: str | Path, what: str, place: str) -> tuple[str, np.ndarray]:
    """Values of an image file whose numbers are no brightness, as they are.

    Args:
        path: Whatever Pillow reads.
        what: What an error calls it, such as 'depth map'.
        place: What a reader should check where there is no such file.

    Returns:
        Pillow's mode, and the values, H x W or H x W x C.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image, is damaged or too large.
    """
    path = present(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}: check {place}")
    try:
        with Image.open(path) as file:
            if file.width * file.height > MAX_PIXELS:
                raise ValueError(f"{file.width}x{file.height} pixels, more than {MAX_PIXELS}")
            return file.mode, np.array(file)
    except (*DECODING_ERRORS, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a {what} ({error}): copy it or save it again as PNG") from error


def read_label_values(path: str | Path, white: int = 1, what: str = "label map") -> np.ndarray:
    """Values of a label map or mask.

    Args:
        path: PNG (or what else Pillow reads) of 1, 8 or 16 bits: gray, palette (its indices), or color with three equal
            channels.
        white: What the ones of an image of 1 bit are.
        what: What an error calls it, 'label map' or 'mask'.

    Returns:
        uint8 or uint16, H x W.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image, is damaged, too large, or colored.
    """
    mode, values = read_values(path, what, f"the folder of {what}s and their suffix")
    if values.ndim == 3:
        colors = values[..., : 1 if mode == "LA" else 3]
        if (colors != colors[..., :1]).any():
            raise ValueError(
                f"{path} is a color image ({mode}): expected a gray or palette image whose values are the classes"
            )
        values = colors[..., 0]
    if values.dtype.kind not in "bui" or values.min() < 0 or values.max() >= 2**16:
        raise ValueError(
            f"{path} holds {values.dtype} from {values.min()} to {values.max()}: expected values of 1, 8 or 16 bits"
        )
    if values.dtype.kind == "b":
        values = values * np.uint8(white)
    return np.ascontiguousarray(values.astype(np.uint8 if values.dtype.itemsize == 1 else np.uint16))
