"""Reading images: every mode becomes RGB uint8, and every broken file one error that names it."""

import numpy as np
import pytest
from PIL import Image

from delvm_mm.datasets import LoadImage, read_image
from delvm_mm.datasets.readers.io.image import image_size


@pytest.fixture
def rgb():
    return np.random.RandomState(0).randint(0, 256, (6, 9, 3), np.uint8)


def test_rgb_comes_back_as_it_was_and_writable(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert np.array_equal(image, rgb) and image.dtype == np.uint8 and image.flags.writeable
    assert np.array_equal(read_image(str(tmp_path / "a.png")), rgb)


def test_gray_alpha_and_palette_become_rgb(tmp_path, rgb):
    gray = rgb[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    assert np.array_equal(read_image(tmp_path / "gray.png"), np.repeat(gray[..., None], 3, -1))
    Image.fromarray(np.dstack([rgb, gray])).save(tmp_path / "rgba.png")
    assert np.array_equal(read_image(tmp_path / "rgba.png"), rgb)
    Image.fromarray(rgb // 128 * 255).convert("P", palette=Image.Palette.ADAPTIVE, colors=8).save(tmp_path / "p.png")
    assert np.array_equal(read_image(tmp_path / "p.png"), rgb // 128 * 255)
    Image.fromarray(gray > 127).save(tmp_path / "bits.png")
    assert np.array_equal(read_image(tmp_path / "bits.png")[..., 1], (gray > 127) * np.uint8(255))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[..., 0].tolist() == [[0, 0, 1], [128, 255, 255]]


def test_values_without_a_range_are_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif holds floating-point"):
        read_image(tmp_path / "float.tif")
    Image.fromarray(np.full((2, 2), 70000, np.int32)).save(tmp_path / "int.tif")
    with pytest.raises(ValueError, match=r"int\.tif holds integers from 70000"):
        read_image(tmp_path / "int.tif")


def test_exif_orientation_is_applied(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown correctly after a quarter turn clockwise
    Image.fromarray(rgb).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(rgb, -1))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image at .*gone\.jpg"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match="is not a file"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp"])
def test_every_truncation_is_a_clear_error(tmp_path, suffix):
    """Cut anywhere, also inside the header: one ValueError with the file's name, or the whole image."""
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 40, 3), np.uint8)).save(whole)
    content = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    for length in (1, 5, 20, 60, len(content) // 3, len(content) // 2, len(content) * 3 // 4):
        cut.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"cut\.{suffix}"):
            read_image(cut)


@pytest.mark.parametrize(
    "content, message",
    [(b"", "has 0 bytes"), (b"not an image" * 10, "not an image in a format"), (b"\0" * 500, "not an image")],
)
def test_what_is_no_image_is_named(tmp_path, content, message):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.jpg.*{message}"):
        read_image(tmp_path / "x.jpg")


def test_an_image_without_pixels_is_refused(tmp_path):
    (tmp_path / "zero.pgm").write_bytes(b"P5 0 5 255\n")
    with pytest.raises(ValueError, match=r"zero\.pgm"):
        read_image(tmp_path / "zero.pgm")


def test_too_many_pixels_are_refused_by_the_header(tmp_path):
    # 10 GB of pixels in a header of 20 bytes: nothing may be decoded.
    (tmp_path / "bomb.pgm").write_bytes(b"P5 100000 100000 255\n")
    with pytest.raises(ValueError, match=r"bomb\.pgm.*too large"):
        read_image(tmp_path / "bomb.pgm")
    (tmp_path / "large.pgm").write_bytes(b"P5 10000 9000 255\n")
    with pytest.raises(ValueError, match=r"large\.pgm has 10000x9000 pixels, more than the 80000000"):
        read_image(tmp_path / "large.pgm")
    Image.new("RGB", (10, 10)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="more than the 99"):
        read_image(tmp_path / "small.png", max_pixels=99)


def test_damaged_exif_leaves_the_pixels(tmp_path):
    image = np.random.RandomState(0).randint(0, 256, (8, 12, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x011A] = 72.0
    Image.fromarray(image).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    content = (tmp_path / "turned.jpg").read_bytes()
    assert read_image(tmp_path / "turned.jpg").shape == (12, 8, 3)
    start, end = content.index(b"Exif"), content.index(b"\xff\xdb")
    shapes = set()
    for place in range(start, end):
        for value in (0, 2, 7, 255):
            damaged = content[:place] + bytes([value]) + content[place + 1 :]
            shapes.add(read_image("damaged.jpg", content=damaged).shape)
    assert shapes <= {(12, 8, 3), (8, 12, 3)}


@pytest.mark.parametrize("color", [0, 255])
def test_an_image_that_would_show_nothing_is_refused(tmp_path, color):
    mask = np.array([[0, 1], [1, 1]], np.uint8)
    Image.fromarray(mask.astype(np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png holds 16-bit values of 1 at most, which is black"):
        read_image(tmp_path / "deep.png")
    Image.fromarray(np.dstack([np.full((2, 2, 3), color, np.uint8), 255 * mask])).save(tmp_path / "alpha.png")
    with pytest.raises(ValueError, match=r"alpha\.png shows nothing but in its transparency"):
        read_image(tmp_path / "alpha.png")


def test_image_size_is_that_of_the_image_read(tmp_path):
    image = Image.new("RGB", (30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "upright.png")
    (tmp_path / "no.jpg").write_bytes(b"\xff\xd8\xff")
    assert image_size(tmp_path / "turned.jpg") == (20, 30)
    assert LoadImage()({"img_path": tmp_path / "turned.jpg"})["img_shape"] == (30, 20)
    assert image_size(tmp_path / "upright.png") == (30, 20)
    assert image_size(tmp_path / "no.jpg") is image_size(tmp_path / "missing.jpg") is None
