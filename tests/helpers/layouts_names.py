"""Names whose accents are written in two forms, and photographs that a camera has turned."""

import unicodedata

from PIL import Image

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))


def turn_by_exif(path):
    """Save an image as a camera does that was held upright: lying down, with an orientation."""
    with Image.open(path) as image:
        turned = image.convert("RGB")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(path, exif=exif)
