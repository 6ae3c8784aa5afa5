"""Degradations of one's own images: each against arithmetic, OpenCV or scikit-image."""

import cv2
import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.feature import canny

from delvm_mm.datasets.procedural.rain import add_rain
from delvm_mm.datasets.seeded_clips import SeededClips
from delvm_mm.datasets.transforms.degrade import motion_kernel
from delvm_mm.registry import TRANSFORMS

NAMES = ("AddRain", "AddNoise", "AddBlur", "AddDarkness", "MaskOut", "ToGray", "CannyEdges")


def _image(height: int = 321, width: int = 481) -> np.ndarray:
    """A smooth image with a bright disc in it."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 / width, y * 255 / height, 128 + 60 * np.sin(x / 9)], -1)
    image[(x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] = (250, 240, 40)
    return image.astype(np.uint8)


def _run(name: str, image: np.ndarray, seed: int = 0, gt_img: np.ndarray | None = None, **arguments) -> dict:
    np.random.seed(seed)
    results = {"img": image, "img_path": "some.jpg"} | ({} if gt_img is None else {"gt_img": gt_img})
    return TRANSFORMS.build(dict(type=name, **arguments))(results)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(321, 481), (64, 64), (17, 90), (2, 2)])
def test_input_and_target_have_the_size_of_the_image_which_is_not_changed(name, shape):
    image = _image(*shape)
    before = image.copy()
    results = _run(name, image)
    np.testing.assert_array_equal(image, before)
    for key in ("img", "gt_img"):
        assert results[key].shape == (*shape, 3) and results[key].dtype == np.uint8
    if name != "CannyEdges":
        np.testing.assert_array_equal(results["gt_img"], before)
        assert not np.shares_memory(results["gt_img"], results["img"])


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_and_nothing_else(name):
    first, again, other = (_run(name, _image(), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first["img"], again["img"])
    np.testing.assert_array_equal(first["gt_img"], again["gt_img"])
    random = name not in ("ToGray", "CannyEdges")
    assert (first["img"] != other["img"]).any() == random


@pytest.mark.parametrize("name", ["AddRain", "AddNoise", "AddBlur", "AddDarkness", "MaskOut"])
def test_bulk_tokenization_gives_a_clip_the_same_degradation_in_any_order(name):
    steps = [TRANSFORMS.build(dict(type=kind)) for kind in (name,)]
    draw = TRANSFORMS.build(dict(type="DrawLabel", codec=dict(type="RestorationCodec")))
    pack = TRANSFORMS.build(dict(type="PackClip"))

    class Images:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return pack(draw(steps[0]({"img": _image(48, 40), "sample_idx": index, "task": "any"})))

    forward = [SeededClips(Images(), 5, 2)[clip]["inputs"] for clip in range(6)]
    backward = [SeededClips(Images(), 5, 2)[clip]["inputs"] for clip in reversed(range(6))][::-1]
    assert all(bool((a == b).all()) for a, b in zip(forward, backward, strict=True))
    assert bool((forward[0] != forward[3]).any()), "two copies of one image have the same degradation"


def test_a_second_degradation_keeps_the_first_ones_target():
    image = _image()
    blurred = _run("AddBlur", image)
    both = _run("AddNoise", blurred["img"], gt_img=blurred["gt_img"])
    np.testing.assert_array_equal(both["gt_img"], image)


def test_rain_of_a_square_is_what_it_was():
    # The formula of the square version, on its own random numbers: a checksum of it was taken before the change.
    image = np.full((64, 64, 3), 90, np.uint8)
    rainy = add_rain(np.random.default_rng(7), image)
    assert rainy.astype(int).sum() == 1274745


def test_rain_of_a_wide_image_is_the_middle_of_the_square_ones():
    wide = add_rain(np.random.default_rng(1), np.full((60, 101, 3), 70, np.uint8))
    square = add_rain(np.random.default_rng(1), np.full((101, 101, 3), 70, np.uint8))
    np.testing.assert_array_equal(wide, square[20:80])
    tall = add_rain(np.random.default_rng(1), np.full((101, 60, 3), 70, np.uint8))
    np.testing.assert_array_equal(tall, square[:, 20:80])


def test_noise_has_the_given_deviation():
    image = np.full((400, 300, 3), 128, np.uint8)
    noise = _run("AddNoise", image, std=20)["img"].astype(float) - 128
    # Standard errors: 20 / sqrt(360000) of the mean, about that over sqrt(2) of the deviation; rounding adds 1/12.
    assert abs(noise.mean()) < 5 * 20 / 600
    assert abs(noise.std() - np.sqrt(400 + 1 / 12)) < 5 * 20 / 600
    np.testing.assert_array_equal(_run("AddNoise", image, std=0)["img"], image)
    assert _run("AddNoise", np.full((9, 9, 3), 255, np.uint8), std=50)["img"].max() == 255


def test_darkness_leaves_a_part_of_the_light_and_shot_noise():
    image = np.full((300, 300, 3), 180, np.uint8)
    dark = _run("AddDarkness", image, exposure=0.1, photons=4000, read_noise=3)["img"].astype(float)
    photons = (180 / 255) ** 2.2 * 0.1 * 4000
    light = (dark / 255) ** 2.2 * 4000
    # Rounding to gray levels adds about 1 % of the light; the standard error of the mean is 0.02 photons.
    assert light.mean() == pytest.approx(photons, rel=0.01)
    assert light.std() == pytest.approx(np.sqrt(photons + 9), rel=0.05)
    clean = _run("AddDarkness", image, exposure=1, photons=1e9, read_noise=0)["img"]
    np.testing.assert_array_equal(clean, image)


def test_gaussian_blur_is_opencvs():
    image = _image()
    expected = cv2.GaussianBlur(image, (0, 0), 1.7, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_array_equal(_run("AddBlur", image, kinds="gaussian", sigma=1.7)["img"], expected)


def test_motion_blur_of_whole_pixels_is_a_running_mean():
    kernel = motion_kernel(5, 0)
    center = len(kernel) // 2
    np.testing.assert_allclose(kernel[center, center - 2 : center + 3], 0.2, atol=1e-6)
    assert kernel.sum() == pytest.approx(1) and np.count_nonzero(kernel > 1e-6) == 5
    np.testing.assert_allclose(motion_kernel(5, np.pi / 2), kernel.T, atol=1e-6)
    np.testing.assert_allclose(motion_kernel(1, 0.7).max(), 1, atol=1e-6)


def test_motion_blur_spreads_a_point_over_the_length():
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    blurred = _run("AddBlur", point, kinds="motion", length=9)["img"][..., 0].astype(float)
    y, x = np.nonzero(blurred)
    assert np.hypot(y - 20, x - 20).max() <= 9 / 2 + 1
    assert blurred.sum() == pytest.approx(255, abs=20)


@pytest.mark.parametrize("stroke_prob", [0, 0.5, 1])
def test_holes_cover_the_part_and_the_rest_stays(stroke_prob):
    image = np.full((120, 80, 3), 9, np.uint8)
    results = _run("MaskOut", image, part=0.3, fill=(255, 0, 255), stroke_prob=stroke_prob)
    holes = (results["img"] == (255, 0, 255)).all(-1)
    assert (results["img"][~holes] == 9).all()
    # The last shape goes beyond by at most itself: a box of 0.4 x 0.4, or a stroke of 0.12 x 1.6 of the short side.
    assert 0.3 <= holes.mean() <= 0.3 + 0.2


def test_gray_is_rec_601_luma_in_three_channels():
    image = _image(31, 17)
    gray = _run("ToGray", image)["img"]
    assert (gray == gray[..., :1]).all()
    expected = image.astype(float) @ (0.299, 0.587, 0.114)
    assert np.abs(gray[..., 0] - expected).max() <= 0.51


def test_edges_are_where_scikit_images_canny_has_them():
    y, x = np.mgrid[:90, :120]
    image = np.where(((x - 60) ** 2 + (y - 45) ** 2 < 900)[..., None], (200, 190, 180), (20, 30, 40)).astype(np.uint8)
    results = _run("CannyEdges", image, sigma=1.0)
    np.testing.assert_array_equal(results["img"], image)
    edges = results["gt_img"][..., 0] > 0
    assert set(np.unique(results["gt_img"])) == {0, 255}
    expected = canny(rgb2gray(image), sigma=1.0)
    near = cv2.dilate(expected.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert edges.sum() > 100 and near[edges].all()
    assert (cv2.dilate(edges.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)[expected].all()


def test_thick_edges_are_the_thin_ones_dilated_and_flat_images_have_none():
    thin, thick = (_run("CannyEdges", _image(), thickness=n)["gt_img"][..., 0] for n in (1, 3))
    np.testing.assert_array_equal(thick, cv2.dilate(thin, np.ones((3, 3), np.uint8)))
    assert not _run("CannyEdges", np.full((20, 30, 3), 77, np.uint8))["gt_img"].any()


def test_edges_after_noise_are_those_of_the_clean_image():
    image = _image()
    noisy = _run("AddNoise", image, std=40)
    edges = _run("CannyEdges", noisy["img"], gt_img=noisy["gt_img"])
    np.testing.assert_array_equal(edges["gt_img"], _run("CannyEdges", image)["gt_img"])
    np.testing.assert_array_equal(edges["img"], noisy["img"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "NoneType"),
        (np.zeros((4, 5), np.uint8), r"uint8 of shape \(4, 5\)"),
        (np.zeros((4, 5, 3), np.float32), "float32"),
    ],
)
def test_what_is_no_image_is_refused_by_name(name, image, words):
    with pytest.raises(ValueError, match=rf"{name} needs 'img' of some.jpg .*{words}"):
        _run(name, image)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("AddNoise", {"std": -1}, "std is -1"),
        ("AddNoise", {"std": (30, 10)}, r"std is \(30, 10\)"),
        ("AddNoise", {"std": "much"}, "std is 'much'"),
        ("AddBlur", {"kinds": "gauss"}, "kinds is 'gauss'"),
        ("AddBlur", {"kinds": ()}, "kinds is"),
        ("AddBlur", {"length": 0.5}, "length is 0.5"),
        ("AddDarkness", {"exposure": 0}, "exposure is 0"),
        ("AddDarkness", {"photons": 0}, "photons is 0"),
        ("MaskOut", {"part": 1.5}, "part is 1.5"),
        ("MaskOut", {"fill": (1, 2)}, "fill is"),
        ("MaskOut", {"fill": (1, 2, 300)}, "fill is"),
        ("MaskOut", {"stroke_prob": 2}, "stroke_prob is 2"),
        ("CannyEdges", {"sigma": -1}, "sigma is -1"),
        ("CannyEdges", {"low": 9, "high": 3}, "low and high are 9 and 3"),
        ("CannyEdges", {"thickness": 0}, "thickness is 0"),
    ],
)
def test_arguments_out_of_range_are_refused(name, arguments, words):
    with pytest.raises(ValueError, match=f"{name}.*{words}"):
        TRANSFORMS.build(dict(type=name, **arguments))
