import numpy as np
import pytest

from delvm_mm.codecs import ForegroundMaskCodec, RandomColorMaskCodec, RestorationCodec, SkeletonCodec
from delvm_mm.visualization import draw_overlay

GRAY = np.full((32, 32, 3), 100, np.uint8)


def test_a_mask_is_tinted_and_outlined_and_the_rest_stays():
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = 1
    overlay = draw_overlay(GRAY, mask, ForegroundMaskCodec())
    assert (overlay[mask == 0] == 100).all()
    assert (overlay[10:18, 10:18] == overlay[12, 12]).all() and (overlay[12, 12] != overlay[8, 8]).any()
    assert (GRAY == 100).all()


def test_a_skeleton_is_laid_over_the_image():
    codec = SkeletonCodec(radius=2, thickness=1)
    points = np.random.default_rng(0).uniform(4, 28, (1, 17, 2))
    person = dict(keypoints=points, keypoints_visible=np.ones((1, 17)), img_shape=(32, 32))
    overlay = draw_overlay(GRAY, person, codec)
    drawing = codec.encode(person)
    np.testing.assert_array_equal(overlay[~drawing.any(-1)], 100)
    full = drawing.max(-1) == 255  # 0.8 of the color and 0.2 of the image
    np.testing.assert_allclose(overlay[full], 0.8 * drawing[full] + 20, atol=0.51)


def test_many_masks_keep_their_colors():
    codec = RandomColorMaskCodec(seed=0)
    instances = np.zeros((32, 32), np.int32)
    instances[:16], instances[20:, :10] = 1, 2
    overlay = draw_overlay(GRAY, codec.decode(codec.encode(instances)), codec)
    assert (overlay[18] == 100).all() and (overlay[0, 0] != overlay[30, 0]).any()


def test_a_restored_image_has_no_overlay_and_a_wrong_size_is_refused():
    assert draw_overlay(GRAY, GRAY, RestorationCodec()) is None
    with pytest.raises(ValueError, match=r"\(16, 16\), the query \(32, 32\)"):
        draw_overlay(GRAY, np.zeros((16, 16), np.uint8), ForegroundMaskCodec())
